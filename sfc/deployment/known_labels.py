"""Which classes an image is known to show: from a label table, or the same for all images."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from sfc.errors import UserError
from sfc.label_table import class_indices, composed, read_cells, split_names


def known_classes(labels: str, images: Mapping[str, Path], classes: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Id -> sorted 0-based indices of the classes of each image; images that the table lacks are left out.

    Args:
        labels: class names apart by commas, for all images; or the path of a CSV file with the columns image (or
            image_id) and classes, as `dataset.labels` and the manifest have them. A row is an image's if it has the
            image's path, from where the command runs or from the table, or else its id or its name, with or without
            ending.
        images: id -> file.
        classes: the model's.

    Raises:
        UserError: no such file, not of this form, or an unknown class.
    """
    if not Path(labels).is_file() and not labels.lower().endswith(".csv"):
        (names,) = split_names([labels + ","])
        if not names:
            raise UserError(f"--labels: {labels!r} names no class; the model knows {', '.join(classes)}")
        shown = class_indices(names, classes)
        return dict.fromkeys(images, shown)
    rows = _rows(Path(labels), classes)
    found = {}
    for id, path in images.items():
        keys = (str(path.resolve()), id, path.name, path.stem)
        key = next((composed(key) for key in keys if composed(key) in rows), None)
        if key is not None:
            found[id] = rows[key]
    return found


def _rows(table: Path, classes: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Class indices by what the table calls an image, and by the paths which that may be."""
    column = _image_column(table)
    cells = read_cells(table, needed=(column, "classes"), apart="spaces or ;")
    rows: dict[str, tuple[int, ...]] = {}
    for (line, row), names in zip(cells, split_names([row["classes"] for _, row in cells]), strict=True):
        try:
            shown = class_indices(names, classes)
        except UserError as error:
            raise UserError(f"{table}: line {line}: {error}") from None
        name = row[column].replace("\\", "/")
        for key in (name, str(Path(name).resolve()), str((table.parent / name).resolve())):
            if rows.setdefault(composed(key), shown) != shown:
                raise UserError(f"{table}: line {line}: {name} stands in the table with other classes already")
    return rows


def _image_column(table: Path) -> str:
    """image_id where the table has that column and no column image; what else is wrong, `read_cells` says."""
    try:
        with open(table, newline="", encoding="utf-8-sig") as file:
            names = [name.strip() for name in next(csv.reader(file), ())]
    except (OSError, UnicodeDecodeError, csv.Error):
        return "image"
    return "image_id" if "image_id" in names and "image" not in names else "image"
