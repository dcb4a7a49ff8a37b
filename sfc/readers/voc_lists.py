"""The lists of images of a data set in VOC's layout, ROOT/ImageSets/Segmentation/LIST.txt."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path

from sfc.errors import UserError, refuse
from sfc.label_table import composed

_PATHS = re.compile(r"(\S*/.*?\.\w+)(?:\s+(\S*/.*\.\w+))?")  # names may hold spaces, so an extension ends a path
_MEMBERSHIP = re.compile(r".*\s(-1|0|1)")  # as all lines of ImageSets/Main, which say of each image if it shows a class


def read_list(root: Path, name: str) -> list[str]:
    """The image ids of ImageSets/Segmentation/NAME.txt, in either public line format.

    Raises:
        UserError: no such list, an empty list, a line of another form, or an id that comes twice.
    """
    return read_ids(list_path(root, name))


def list_path(root: Path, name: str) -> Path:
    """Where the list NAME is, or would be."""
    return root / "ImageSets" / "Segmentation" / f"{name}.txt"


def read_ids(path: Path) -> list[str]:
    """The image ids of one list file, as `read_list`."""
    if not os.path.isfile(path):
        raise UserError(f"{path}: no such list; see dataset.root and dataset.train, val and test")
    ids: dict[str, int] = {}
    problems = []
    lines = read_lines(path)
    membership = all(_MEMBERSHIP.fullmatch(line) for line in lines if line)
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        paths = _PATHS.fullmatch(line)
        image_id = composed(Path(paths[1]).stem if paths else line)
        if not paths and ("/" in line or membership):
            problems.append(f"line {number}: expected an id, or the paths of an image and its mask")
        elif image_id in ids:
            problems.append(f"line {number}: image {image_id} stands on line {ids[image_id]} already")
        ids.setdefault(image_id, number)
    refuse(str(path), problems)
    if not ids:
        raise UserError(f"{path}: the list is empty")
    return list(ids)


def refuse_overlap(root: Path, lists: Mapping[str, Sequence[str]], names: Mapping[str, str]) -> None:
    """Raise UserError if an image is in the lists of two splits; `names`: what the data set calls them."""
    problems = []
    for one, other in combinations(lists, 2):
        both = sorted(set(lists[one]) & set(lists[other]))
        problems += [f"image {image_id} is in both lists, {names[one]} and {names[other]}" for image_id in both]
    refuse(str(root), problems)


def read_lines(path: Path) -> list[str]:
    """The lines of a UTF-8 file, with or without a byte order mark, stripped; UserError if it is anything else."""
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text ({error}); save it as UTF-8") from None
