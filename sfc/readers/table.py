"""Reader of your own images: a folder and a CSV table that says what each image shows.

    image,classes[,mask][,split]
    badger/01.jpg,badger;polar bear,badger/01.png,train

Image and mask are paths from ROOT. Classes are apart by spaces; or by ; | or a quoted comma if one of these occurs in
the column at all, and then names may hold spaces, which become _. `split` holds the values that dataset.train, val and
test name.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import NamedTuple

from sfc.data.manifest import Manifest, Record
from sfc.errors import UserError, refuse
from sfc.label_table import class_indices, composed, read_cells, split_names
from sfc.readers.check import Facts, inspect_all
from sfc.readers.files import Tree, check_root
from sfc.readers.label_sources import compared
from sfc.readers.labels import check_class_names

_NEEDED = ("image", "classes")


class _Row(NamedTuple):
    line: int
    id: str
    image: str
    mask: str
    split: str
    names: tuple[str, ...]


def read_table(
    root: Path,
    *,
    train: str,
    val: str,
    test: str | None,
    labels: Path,
    classes: Sequence[str] | None,
    negatives: bool,
    workers: int,
    progress: Callable[..., Iterable],
) -> tuple[Manifest, dict[str, int | dict[str, int]]]:
    """Read and check a whole data set.

    An image's id is its path from ROOT without the ending, folders joined by _ (a/1.JPG is a_1), so that it stays the
    same when images are added. Masks (0 background, class i is i + 1, 255 ignore) may be missing everywhere: nothing
    but evaluation looks at them. A row without classes says that its image shows none of them.

    Args:
        train, val, test: values of the column split; without that column all images are for training.
        labels: the table, UTF-8 with or without a byte order mark.
        classes: names of the C foreground classes in index order; None: those of the table, sorted.
        negatives: whether training images that show none of the classes stay.
        workers: threads that decode.
        progress: called as progress(items, total=n, label=what is being done).

    Returns:
        The manifest, and counts of images: images_with_rotation_tag, and for each split images_without_label and those
        of `compared` with the masks.

    Raises:
        UserError: the table lies outside ROOT or is not of this form, two images have one id, an image or mask is
            missing or does not decode or they do not fit each other, or no training image has a class.
    """
    check_root(root, "your images")
    if not os.path.abspath(labels).startswith(os.path.join(os.path.abspath(root), "")):  # links may lead to DVC's cache
        raise UserError(f"dataset.labels: move {labels} into {root}, so that DVC sees when it changes")
    rows = _rows(labels, {train: "train", val: "val", test: "test"})
    if not any(row.split == "train" and row.names for row in rows):
        raise UserError(f"{labels}: no image of split {train} has a class; there is nothing to train on")
    names = tuple(sorted({name for row in rows for name in row.names})) if classes is None else tuple(classes)
    names = check_class_names(names, str(labels) if classes is None else "dataset.classes")
    _refuse_spellings(labels, names)
    found = _labels(labels, rows, names)

    kept = [row for row in rows if row.split != "train" or row.names or negatives]
    files = _files(root, labels, kept)
    facts = inspect_all(str(root), files, len(names), workers=workers, progress=progress)
    records = tuple(
        Record(row.id, row.split, *pair, fact.height, fact.width, found[row.id], fact.image_hash, "table")
        for row, pair, fact in zip(kept, files, facts, strict=True)
    )
    return Manifest(records, names), _counts(rows, records, facts)


def _counts(rows: Sequence[_Row], records: Sequence[Record], facts: Sequence[Facts]) -> dict[str, int | dict[str, int]]:
    """What `read_table` counts, of the rows of the table and of the records that were made of some of them."""
    without = Counter(row.split for row in rows if not row.names)
    agree = defaultdict(list)
    for record, fact in zip(records, facts, strict=True):
        if fact.mask_classes is not None:
            agree[record.split].append(fact.mask_classes == record.labels)
    splits = dict.fromkeys(row.split for row in rows)
    counts = {split: {"images_without_label": without[split], **compared("masks", agree[split])} for split in splits}
    return counts | {"images_with_rotation_tag": sum(fact.rotated for fact in facts)}


def _files(root: Path, path: Path, rows: Sequence[_Row]) -> list[tuple[Path, Path | None]]:
    """Image and mask of each row; UserError that lists the first several that are missing."""
    tree = Tree(root)
    files, problems = [], []
    for row in rows:
        wanted = [row.image] + ([row.mask] if row.mask and row.split != "test" else [])
        found = [tree.find(name) for name in wanted]
        missing = [root / name for name, file in zip(wanted, found, strict=True) if file is None]
        problems += [f"line {row.line}: there is no file {file}" for file in missing]
        files.append((found[0], found[1] if len(found) > 1 else None))
    refuse(str(path), problems)
    return files


def _rows(path: Path, roles: dict[str | None, str]) -> list[_Row]:
    """The rows of the table; UserError that lists the first several faults."""
    lines = read_cells(path, needed=_NEEDED, optional=("mask", "split"), apart=";")
    named = split_names([cells["classes"] for _, cells in lines])
    rows: dict[str, _Row] = {}
    problems = []
    for (line, cells), names in zip(lines, named, strict=True):
        try:
            image, mask = _inside(cells["image"], "image"), _inside(cells.get("mask", ""), "mask")
            if not image:
                raise UserError("no image")
            image = composed(image)
            id = "_".join(PurePosixPath(image).with_suffix("").parts)
            if id in rows:
                before = rows[id]
                if before.image == image:
                    raise UserError(f"{image} stands on line {before.line} already; delete one of the two lines")
                raise UserError(f"{image} has the id of {before.image} on line {before.line}, {id}; rename one of them")
            split = roles.get(cells["split"]) if "split" in cells else "train"
            if split is None:
                values = ", ".join(value for value in roles if value)
                raise UserError(f"split {cells['split']!r} is none of dataset.train, val and test ({values})")
            rows[id] = _Row(line, id, image, mask, split, names)
        except UserError as error:
            problems.append(f"line {line}: {error}")
    refuse(str(path), problems)
    return list(rows.values())


def _inside(text: str, column: str) -> str:
    """A path from ROOT with / between its parts; UserError if it leaves ROOT."""
    path = PureWindowsPath(text)  # takes \\ and /
    if path.anchor or ".." in path.parts or (text and not path.name):
        raise UserError(f"{column} {text} must be a file's path from dataset.root")
    return path.as_posix() if text else ""


def _refuse_spellings(path: Path, names: Sequence[str]) -> None:
    """Raise UserError if two classes differ in upper and lower case alone."""
    first: dict[str, str] = {}
    for name in names:
        other = first.setdefault(composed(name).casefold(), name)
        if other != name:
            raise UserError(f"{path}: {other} and {name} would be two classes; write the name in one way")


def _labels(path: Path, rows: Sequence[_Row], classes: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Id -> class indices; a name made of other names is a forgotten ; or |."""
    labels, problems = {}, []
    for row in rows:
        try:
            for name in row.names:
                words = name.split("_")
                if len(words) > 1 and name not in classes and set(words) <= set(classes):
                    raise UserError(f"write ; between the classes {' and '.join(words)}, as in other rows")
            labels[row.id] = class_indices(row.names, classes)
        except UserError as error:
            problems.append(f"line {row.line}: {error}")
    refuse(str(path), problems)
    return labels
