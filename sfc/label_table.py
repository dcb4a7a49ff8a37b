"""Label tables: the classes of each image as CSV, and names of classes as indices."""

from __future__ import annotations

import csv
import os
import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from sfc.errors import UserError, nearest, refuse

_COLUMNS = ("image_id", "split", "classes")


class TableRow(NamedTuple):
    """One image of a label table; `classes` are names, each once, in the order of the table."""

    split: str
    classes: tuple[str, ...]


def read_label_table(path: Path | str) -> dict[str, TableRow]:
    """Read a CSV file with the columns image_id, split, classes (names apart by spaces, none for no class).

    Raises:
        UserError: as `read_cells`; a row is not whole, or an image comes twice.
    """
    table: dict[str, TableRow] = {}
    problems = []
    for line, row in read_cells(path, needed=_COLUMNS, apart="spaces"):
        image_id = composed(row["image_id"])
        if not image_id:
            problems.append(f"line {line}: expected {','.join(_COLUMNS)}")
        elif image_id in table:
            problems.append(f"line {line}: image {image_id} comes a second time")
        else:
            table[image_id] = TableRow(row["split"], tuple(dict.fromkeys(row["classes"].split())))
    refuse(str(path), problems)
    return table


def read_cells(
    path: Path | str, *, needed: Sequence[str], optional: Sequence[str] = (), apart: str
) -> list[tuple[int, dict[str, str]]]:
    """Line number and stripped cells, by column, of each row of a CSV file that is not empty.

    Args:
        needed, optional: the columns that are read; others may stand beside them.
        apart: what parts the classes of a row, named in errors.

    Raises:
        UserError: no such file, not CSV in UTF-8, a needed column is missing, a column comes twice, or a row has more
            cells than there are columns (of whose classes all but the first would be lost), fewer than are needed, or
            one that goes on over lines.
    """
    if not os.path.isfile(path):
        raise UserError(f"{path}: no such label table; see dataset.labels")
    problems, rows = [], []
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, strict=True)
            reader.fieldnames = [(name or "").strip() for name in reader.fieldnames or ()]
            known = _known_columns(path, reader.fieldnames, needed, optional)
            for row in reader:
                line, cells = reader.line_num, {name: (row[name] or "").strip() for name in known}
                surplus = any(cell.strip() for cell in row.pop(None, ()))
                if not surplus and not any(cells.values()):
                    continue
                rows.append((line, cells))
                if any("\n" in (cell or "") for cell in row.values()):
                    problems.append(f"a cell goes on over lines up to line {line}; close its quote")
                elif surplus:
                    problems.append(f"line {line} has more cells than columns; write {apart} between classes")
                elif any(row[name] is None for name in needed):
                    problems.append(f"line {line}: expected {','.join(needed)}")
    except csv.Error as error:
        raise UserError(f"{path}: from line {reader.line_num + 1} on: no CSV ({error}); is a quote open?") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not a CSV file in UTF-8 ({error}); save it as CSV UTF-8") from None
    refuse(str(path), problems)
    return rows


def _known_columns(path: Path | str, found: Sequence[str], needed: Sequence[str], optional: Sequence[str]) -> list[str]:
    """Those of `needed` and `optional` in the first line; UserError if a needed one is missing, or one comes twice."""
    for name in needed:
        if name not in found:
            more = f" and, if you like, {' and '.join(optional)}" if optional else ""
            wanted = f"{','.join(needed)}{more}, with commas between"
            raise UserError(f"{path}: column {name} is missing; the first line must be {wanted}")
    known = [name for name in (*needed, *optional) if name in found]
    for name in known:
        if found.count(name) > 1:
            raise UserError(f"{path}: column {name} comes twice; rename or delete one of the two")
    return known


def split_names(cells: Sequence[str]) -> list[tuple[str, ...]]:
    """The class names in each cell of a column, each once.

    They are apart by ; | or , if one of these occurs in the column at all, and then may hold spaces, which become _;
    else by spaces.
    """
    separated = any(mark in cell for cell in cells for mark in ";|,")
    parts = (re.split("[;|,]", cell) if separated else cell.split() for cell in cells)
    return [tuple(dict.fromkeys("_".join(part.split()) for part in row if part.strip())) for row in parts]


def class_indices(names: Iterable[str], classes: Sequence[str]) -> tuple[int, ...]:
    """Sorted 0-based indices of class names; UserError on a name that is not in `classes`."""
    found = []
    for name in names:
        if name not in classes:
            raise UserError(f"unknown class {name!r}{nearest(name, classes, otherwise='see dataset.classes')}")
        found.append(classes.index(name))
    return tuple(sorted(found))


def composed(name: str) -> str:
    """`name` with each accented letter as one character (Unicode NFC)."""
    return unicodedata.normalize("NFC", name)
