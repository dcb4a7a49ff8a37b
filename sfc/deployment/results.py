"""A folder of results: what lies where in it, and the table that tells it from a folder of photographs."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from sfc.data.manifest import BACKGROUND
from sfc.errors import UserError

TABLE = "segments.csv"  # stands in a folder of results from its first moment
LABELS, OVERLAYS, HEAT_MAPS = FOLDERS = ("labels", "overlays", "heat_maps")  # beside it
_ABOUT = ("image", "label_map", "overlay", "height", "width")

Row = list[str]


def label_path(id: str) -> str:
    """Of the label map of an image, from the folder of results."""
    return f"{LABELS}/{id}.png"


def overlay_path(id: str) -> str:
    return f"{OVERLAYS}/{id}.jpg"


def heat_map_path(id: str, name: str) -> str:
    """Of the heat map of a class; `%`, `/` and `.` in its name become `%25`, `%2F` and `%2E`, so no two share one."""
    for character in "%/.":  # the dot, as class b.c of image a is not class c of image a.b
        name = name.replace(character, f"%{ord(character):02X}")
    return f"{HEAT_MAPS}/{id}.{name}.jpg"


def heading(classes: Sequence[str]) -> Row:
    """The table's first line: about the image, then pixels and share of the background and of each class."""
    return [*_ABOUT, *(f"{name}_{what}" for name in (BACKGROUND, *classes) for what in ("pixels", "share"))]


def row_of(id: str, image: Path, label: np.ndarray, classes: Sequence[str]) -> Row:
    """The row of an image whose label map is (H, W) uint8; its path is absolute, as it is read in other folders."""
    counts = np.bincount(label.ravel(), minlength=1 + len(classes)).tolist()
    measures = (text for count in counts for text in (str(count), str(round(count / label.size, 6))))
    return [image.absolute().as_posix(), label_path(id), overlay_path(id), *map(str, label.shape), *measures]


def table_bytes(rows: Iterable[Row]) -> bytes:
    """Rows as CSV in UTF-8; bytes of file names that are not UTF-8 stay as they are."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode("utf-8", "surrogateescape")


def read_rows(folder: Path, classes: Sequence[str]) -> dict[str, Row]:
    """Label map -> row, of the images whose label map still lies there; nothing where there is no table.

    Of two rows of one label map the later holds: rows are added as images are done again. A last line without an end,
    which a killed process leaves, is none.

    Raises:
        UserError: the table is another's, of a model with other classes, or damaged.
    """
    path = folder / TABLE
    if not path.exists():
        return {}
    content = path.read_bytes()
    text = content[: content.rfind(b"\n") + 1].decode("utf-8-sig", "surrogateescape")
    try:
        found, *rows = list(csv.reader(io.StringIO(text, newline=""))) or [[]]
    except csv.Error as error:
        raise UserError(f"{path}: no CSV ({error}); move it away, or name another folder by --out") from None
    wanted = heading(classes)
    if found and found != wanted:
        other = tuple(found[: len(_ABOUT)]) == _ABOUT
        what = "results of a model with other classes" if other else "not the table that this command writes"
        raise UserError(f"{path}: {what}; name another folder by --out, or move these results away")
    if rows and len(rows[-1]) != len(wanted):
        rows.pop()  # its end was in a name of two lines
    if bad := next((row for row in rows if len(row) != len(wanted)), None):
        raise UserError(f"{path}: {bad[:1]} has {len(bad)} cells of {len(wanted)}; mend that row or delete it")
    return {row[1]: row for row in rows if (folder / row[1]).is_file()}


def check_images(folder: Path, images: Mapping[str, Path], rows: Mapping[str, Row]) -> None:
    """Raise UserError if results of these images would take the place of what is none of theirs.

    Whose they are the row's path says: of an image that is gone, too, and one that is not absolute is nobody's.

    Args:
        images: id -> file.
        rows: as `read_rows` gives them.
    """
    if not (folder / TABLE).exists():
        for name in FOLDERS:
            if (folder / name).is_dir() and any((folder / name).iterdir()):
                raise UserError(
                    f"{folder / name}: holds files, and no {TABLE} says that they are results; move them away, or name "
                    "another folder by --out"
                )
    inside = tuple(os.path.realpath(folder / name) + os.sep for name in FOLDERS)
    for id, path in images.items():
        here = os.path.realpath(path)
        if here.startswith(inside):
            raise UserError(f"{path}: lies where results go; name another folder by --out")
        row = rows.get(label_path(id))
        if row and not (os.path.isabs(row[0]) and os.path.realpath(row[0]) == here):
            raise UserError(
                f"{folder / row[1]} is the result of {_as_known(row[0])}, and that of {path} would replace it; name "
                "another folder by --out, or delete that label map"
            )


def _as_known(image: str) -> str:
    if not os.path.isabs(image):
        return f"{image} (of an unknown folder)"
    return image if os.path.exists(image) else f"{image} (gone)"


def table_rows(images: Mapping[str, Path], rows: Mapping[str, Row]) -> list[Row]:
    """The rows in order: first those of other runs, then those of this run's images as its sources have them."""
    ours = dict.fromkeys(map(label_path, images))
    return [*(row for key, row in rows.items() if key not in ours), *(rows[key] for key in ours if key in rows)]
