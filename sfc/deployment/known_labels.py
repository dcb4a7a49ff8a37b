"""Which classes an image is known to show: from a label table, or the same for all images."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sfc.data.manifest import BACKGROUND
from sfc.errors import UserError, nearest
from sfc.label_table import class_indices, composed, read_cells, split_names


@dataclass(frozen=True)
class KnownLabels:
    """What --labels says, not yet looked up among the classes of a model.

    Attributes:
        text: as given.
        names: class names for all images, or None of a table.
        rows: of a table by line: the image as it calls it, and class names.
    """

    text: str
    names: tuple[str, ...] | None
    rows: tuple[tuple[int, str, tuple[str, ...]], ...] = ()

    def of_images(self, images: Mapping[str, Path], classes: Sequence[str]) -> dict[str, tuple[int, ...]]:
        """Id -> sorted 0-based indices of the classes of each image; images that the table lacks are left out.

        A row is an image's if it has the image's path, from where the command runs or from the table, or else its id
        or its name, with or without ending.

        Args:
            images: id -> file.
            classes: the model's.

        Raises:
            UserError: an unknown class, or two rows of one image that differ.
        """
        if self.names is not None:
            return dict.fromkeys(images, self._named(classes))
        rows, found = self._by_key(classes), {}
        for id, path in images.items():
            keys = (str(path.resolve()), id, path.name, path.stem)
            key = next((composed(key) for key in keys if composed(key) in rows), None)
            if key is not None:
                found[id] = rows[key]
        return found

    def _named(self, classes: Sequence[str]) -> tuple[int, ...]:
        known = f"the model knows {', '.join(classes)}"
        if not self.names:
            raise UserError(f"--labels: {self.text!r} names no class; {known}")
        for name in self.names:
            if name == BACKGROUND:
                raise UserError("--labels: 'background' is always there; name classes beside it, or none for all")
            if name not in classes:
                alone = self.text.strip() == name
                what = f"{name!r} is neither a file nor a class" if alone else f"{name!r} is no class"
                raise UserError(f"--labels: {what}{nearest(name, classes, otherwise=known)}")
        return class_indices(self.names, classes)

    def _by_key(self, classes: Sequence[str]) -> dict[str, tuple[int, ...]]:
        """Class indices by what the table calls an image, and by the paths which that may be."""
        table, found = Path(self.text), {}
        for line, name, names in self.rows:
            for unknown in (name for name in names if name not in classes):
                hint = nearest(unknown, classes, otherwise=f"the model knows {', '.join(classes)}")
                hint = "; it is always there, leave it out" if unknown == BACKGROUND else hint
                raise UserError(f"{table}: line {line}: unknown class {unknown!r}{hint}")
            shown = class_indices(names, classes)
            name = name.replace("\\", "/")
            for key in (name, str(Path(name).resolve()), str((table.parent / name).resolve())):
                if found.setdefault(composed(key), shown) != shown:
                    raise UserError(f"{table}: line {line}: {name} stands in the table with other classes already")
        return found


def read_labels(labels: str) -> KnownLabels:
    """What --labels says.

    Args:
        labels: class names apart by commas, for all images; or the path of a CSV file with the columns image (or
            image_id) and classes, as `dataset.labels` and the manifest have them.

    Raises:
        UserError: a path of a CSV file where there is none, or a file that is not of this form.
    """
    if not os.path.isfile(labels):  # of Path an error where the names of classes are longer than those of files
        if labels.lower().endswith(".csv"):
            raise UserError(f"--labels {labels}: no such file")
        (names,) = split_names([labels + ","])
        return KnownLabels(labels, names)
    column = _image_column(Path(labels))
    cells = read_cells(labels, needed=(column, "classes"), apart="spaces or ;")
    names = split_names([row["classes"] for _, row in cells])
    rows = ((line, row[column], shown) for (line, row), shown in zip(cells, names, strict=True))
    return KnownLabels(labels, None, tuple(rows))


def _image_column(table: Path) -> str:
    """image_id where the table has that column and no column image; what else is wrong, `read_cells` says."""
    try:
        with open(table, newline="", encoding="utf-8-sig") as file:
            names = [name.strip() for name in next(csv.reader(file), ())]
    except (OSError, UnicodeDecodeError, csv.Error):
        return "image"
    return "image_id" if "image_id" in names and "image" not in names else "image"
