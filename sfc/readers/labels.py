"""Image-level labels from a label table or from VOC annotation files, and the names of classes."""

from __future__ import annotations

import csv
import difflib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from sfc.errors import UserError
from sfc.readers.check import refuse
from sfc.readers.files import composed

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


def read_xml_labels(path: Path | str) -> tuple[str, ...]:
    """Names of the objects in a VOC annotation file, difficult ones included, each once; UserError if broken."""
    try:
        objects = ElementTree.parse(path).getroot().findall("object")
    except (ElementTree.ParseError, OSError, ValueError, LookupError) as error:  # the last two: unknown encodings
        raise UserError(f"{path}: not a VOC annotation file ({error})") from None
    names = [(item.findtext("name") or "").strip() for item in objects]
    return tuple(dict.fromkeys(names))


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


def check_class_names(classes: Sequence[str], where: str) -> tuple[str, ...]:
    """`classes` if they can name the values 1 .. 254 of a label map, each by one word; else UserError."""
    if not 1 <= len(classes) <= 254:
        raise UserError(f"{where}: {len(classes)} classes; expected 1 to 254, since masks are 8-bit and 255 is ignored")
    for name in classes:
        if name.split() != [name] or "," in name:
            raise UserError(f"{where}: class name {name!r} must be one word without commas; write _ for the spaces")
        if name == "background":
            raise UserError(f"{where}: list the foreground classes only; background is added as value 0")
        if list(classes).count(name) > 1:
            raise UserError(f"{where}: class {name} comes twice")
    return tuple(classes)
