"""Label tables: the classes of each image as CSV, and names of classes as indices."""

from __future__ import annotations

import csv
import difflib
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from sfc.errors import UserError, refuse

_COLUMNS = ("image_id", "split", "classes")


class TableRow(NamedTuple):
    """One image of a label table; `classes` are names, each once, in the order of the table."""

    split: str
    classes: tuple[str, ...]


def read_label_table(path: Path | str) -> dict[str, TableRow]:
    """Read a CSV file with the columns image_id, split, classes (names apart by spaces, none for no class).

    Raises:
        UserError: no such file, a column is missing, a row is not whole, or an image comes twice.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            missing = [name for name in _COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                raise UserError(f"{path}: column {missing[0]} is missing; the first line must be {','.join(_COLUMNS)}")
            rows = [(reader.line_num, row) for row in reader]
    except (FileNotFoundError, IsADirectoryError):
        raise UserError(f"{path}: no such label table; see dataset.labels") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: not a CSV file in UTF-8 ({error})") from None
    table: dict[str, TableRow] = {}
    problems = []
    for line, row in rows:
        image_id = composed((row["image_id"] or "").strip())
        if not image_id or row["classes"] is None:
            problems.append(f"line {line}: expected image_id,split,classes")
        elif image_id in table:
            problems.append(f"line {line}: image {image_id} comes a second time")
        else:
            table[image_id] = TableRow(row["split"], tuple(dict.fromkeys(row["classes"].split())))
    refuse(str(path), problems)
    return table


def class_indices(names: Iterable[str], classes: Sequence[str]) -> tuple[int, ...]:
    """Sorted 0-based indices of class names; UserError on a name that is not in `classes`."""
    found = []
    for name in names:
        if name not in classes:
            close = difflib.get_close_matches(name, classes, n=1)
            hint = f"did you mean {close[0]}?" if close else "see dataset.classes"
            raise UserError(f"unknown class {name!r}; {hint}")
        found.append(classes.index(name))
    return tuple(sorted(found))


def composed(name: str) -> str:
    """`name` with each accented letter as one character (Unicode NFC)."""
    return unicodedata.normalize("NFC", name)
