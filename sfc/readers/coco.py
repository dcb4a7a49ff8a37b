"""Reader of data sets in the layout of MS COCO 2014.

    ROOT/annotations/instances_SPLIT.json     images, categories and instances of a split, such as train2014
    ROOT/annotations/image_info_SPLIT.json     images of a split without annotations, such as test2014
    ROOT/SPLIT/COCO_SPLIT_000000000009.jpg

Classes are the categories of the files in the order of their ids, which have gaps; spaces in names become _.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path, PureWindowsPath
from typing import Any

from pycocotools.coco import COCO

from sfc.data.manifest import Manifest, Record
from sfc.errors import UserError, refuse
from sfc.readers.check import Facts, inspect_all
from sfc.readers.files import check_root
from sfc.readers.instances import Painting, instance_of, paint_all
from sfc.readers.label_sources import compared
from sfc.readers.labels import check_class_names, has_utf8

_FIELDS = {
    "images": {"id": int, "file_name": str, "width": int, "height": int},
    "categories": {"id": int, "name": str},
    "annotations": {"id": int, "image_id": int, "category_id": int, "segmentation": (list, dict)},
}  # what is read of each entry of an annotation file


def read_coco(
    root: Path,
    *,
    train: str,
    val: str,
    test: str | None,
    negatives: bool,
    mask_folder: Path,
    mask_path: Path,
    workers: int,
    progress: Callable[..., Iterable],
) -> tuple[Manifest, dict[str, int | dict[str, int]]]:
    """Read and check a whole data set, and paint its masks.

    An image's labels are the categories of its instances that are no crowd, and its mask is painted from the same
    instances in the order of the file, later over earlier ones (the rule of ReCAM's tool; it marks nothing as
    ignored). Images of `val` without a label stay, all background.

    Args:
        train, val, test: names of the splits' image folders and annotation files; `test` has images alone.
        negatives: whether training images without any annotation stay. Those that have crowds alone never do: they
            have no label, but they show the crowds' categories.
        mask_folder: existing folder to paint the masks of train and val in, ID.png.
        mask_path: what that folder will be called when all is done; records name the masks there.
        workers: threads that decode, and processes that paint.
        progress: called as progress(items, total=n, label=text).

    Returns:
        The manifest, and counts of images: images_with_rotation_tag, and for each split images_without_label and those
        of `compared` with the masks, which lack classes that later instances hide.

    Raises:
        UserError: a file or image is missing or broken, an image has not the size its annotation file says, the two
            files have different categories, an instance cannot be drawn, or no training image has a label.
    """
    check_root(root, "annotations/")
    called = {"train": train, "val": val} | ({"test": test} if test is not None else {})
    files = {split: _load(root, name, split) for split, name in called.items()}
    classes, values = _classes(files, root)
    labels = {split: _labels(coco, values) for split, coco in files.items()}
    images = {
        split: [(root / name / files[split].imgs[number]["file_name"], number) for number in sorted(files[split].imgs)]
        for split, name in called.items()
    }
    _check_unique(root, images)
    if not any(labels["train"].values()):
        raise UserError(f"{root}: no image of {train} has an instance that is no crowd; there is nothing to train on")
    kept = {n for n, shown in labels["train"].items() if shown or (negatives and _bare(files["train"], n))}
    images["train"] = [(path, number) for path, number in images["train"] if number in kept]

    records, counts, rotated = [], {}, 0
    for split, coco in files.items():
        facts = _inspect(root, coco, images[split], split, len(classes), workers, progress)
        masks: dict[int, Path] = {}
        if split != "test":
            masks = {number: mask_folder / f"{path.stem}.png" for path, number in images[split]}
            source = _annotations(root, called[split], split)
            seen = _paint(source, coco, masks, values, split, workers, progress)
            counts[split] = {"images_without_label": sum(not shown for shown in labels[split].values())}
            counts[split] |= compared("masks", [seen[number] == labels[split][number] for number in masks])
        source = "none" if split == "test" else "instances"
        for (path, number), fact in zip(images[split], facts, strict=True):
            mask = mask_path / masks[number].name if number in masks else None
            size, shown = (fact.height, fact.width), labels[split][number]
            records.append(Record(path.stem, split, path, mask, *size, shown, fact.image_hash, source))
            rotated += fact.rotated
    return Manifest(tuple(records), classes), counts | {"images_with_rotation_tag": rotated}


def _annotations(root: Path, name: str, split: str) -> Path:
    return root / "annotations" / f"{'image_info' if split == 'test' else 'instances'}_{name}.json"


def _load(root: Path, name: str, split: str) -> COCO:
    path = _annotations(root, name, split)
    if not os.path.isfile(path):
        raise UserError(f"{path}: no such file; see dataset.root and dataset.{split}")
    try:
        coco = COCO()  # which would read by the encoding of this machine, and take no mark of the byte order
        coco.dataset = json.loads(path.read_text(encoding="utf-8-sig"))
        if not isinstance(coco.dataset, dict):
            raise TypeError("a list or value")
        with contextlib.redirect_stdout(io.StringIO()):  # the library tells what it does
            coco.createIndex()
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: not an annotation file of COCO ({error!r}); fetch it again") from None
    _check_form(path, coco)
    if not os.path.isdir(root / name):
        raise UserError(f"{root / name}: no such folder of images; see dataset.root and dataset.{split}")
    return coco


def _check_form(path: Path, coco: COCO) -> None:
    """Raise UserError unless every entry has what this reader asks for, and an id of its own."""
    problems = []
    for kind, fields in _FIELDS.items():
        entries = coco.dataset.get(kind, [])
        seen = set()
        for entry in entries:
            missing = [name for name, form in fields.items() if not isinstance(entry.get(name), form)]
            if missing:
                problems.append(f"{kind}: entry {entry.get('id')} has no {missing[0]}, or one of another form")
            elif entry["id"] in seen:
                problems.append(f"{kind}: id {entry['id']} comes twice")
            elif kind == "images" and not _is_inside(entry["file_name"]):
                problems.append(
                    f"images: entry {entry['id']} has a file_name that is no path inside the folder of images"
                )
            seen.add(entry.get("id"))
    categories = {entry.get("id") for entry in coco.dataset.get("categories", [])}
    problems += [
        f"annotations: entry {entry['id']} is of category {entry['category_id']}, which the file does not name"
        for entry in coco.dataset.get("annotations", [])
        if not problems and entry["category_id"] not in categories
    ]
    images = {entry.get("id") for entry in coco.dataset.get("images", [])}
    for entry in coco.dataset.get("annotations", []) if not problems else ():
        if entry["image_id"] not in images:
            problems.append(f"annotations: entry {entry['id']} is of image {entry['image_id']}, which is not listed")
        if entry.get("iscrowd", 0) not in (0, 1):
            problems.append(f"annotations: entry {entry['id']} has iscrowd {entry['iscrowd']!r}; expected 0 or 1")
    if not coco.dataset.get("images"):
        problems.append("it lists no images")
    refuse(f"{path}: not an annotation file of COCO, fetch it again", problems)


def _is_inside(name: str) -> bool:
    """Whether a path from elsewhere names something below the folder it is meant for."""
    path = PureWindowsPath(name)  # takes \\ and /
    return bool(path.name) and not path.anchor and ".." not in path.parts and "\0" not in name and has_utf8(name)


def _classes(files: dict[str, COCO], root: Path) -> tuple[tuple[str, ...], dict[int, int]]:
    """Class names, and the value in a mask, 1 .. C, of each category id."""
    categories = {number: files["train"].cats[number]["name"] for number in sorted(files["train"].cats)}
    if {number: category["name"] for number, category in files["val"].cats.items()} != categories:
        raise UserError(f"{root}/annotations: the files of train and val have different categories; fetch them again")
    names = ["_".join(name.split()) for name in categories.values()]
    values = {number: value for value, number in enumerate(categories, 1)}
    return check_class_names(names, f"{root}/annotations"), values


def _check_unique(root: Path, images: dict[str, list[tuple[Path, int]]]) -> None:
    found: dict[str, str] = {}
    problems = []
    for split, paths in images.items():
        for path, _ in paths:
            if path.stem in found:
                problems.append(f"image {path.stem} is in {found[path.stem]} and again in {split}")
            found[path.stem] = split
    refuse(str(root), problems)


def _labels(coco: COCO, values: dict[int, int]) -> dict[int, tuple[int, ...]]:
    """Image number -> sorted 0-based classes of its instances."""
    return {
        number: tuple(sorted({values[a["category_id"]] - 1 for a in _instances(coco, number)})) for number in coco.imgs
    }


def _bare(coco: COCO, number: int) -> bool:
    """Whether an image has no annotation at all; one that has crowds alone shows their categories all the same."""
    return not coco.imgToAnns.get(number)


def _instances(coco: COCO, number: int) -> list[dict[str, Any]]:
    """The annotations of an image that are no crowd, in the order of the file."""
    return [a for a in coco.imgToAnns.get(number, ()) if not a.get("iscrowd", 0)]


def _inspect(
    root: Path,
    coco: COCO,
    images: Sequence[tuple[Path, int]],
    split: str,
    num_classes: int,
    workers: int,
    progress: Callable[..., Iterable],
) -> list[Facts]:
    """Facts of the images of a split, which must have the sizes that masks will be painted in."""
    facts = inspect_all(
        str(root),
        [(path, None) for path, _ in images],
        num_classes,
        workers=workers,
        progress=progress,
        label=f"{split} images",
    )
    problems = []
    for (path, number), fact in zip(images, facts, strict=True):
        said = coco.imgs[number]["width"], coco.imgs[number]["height"]
        if said != (fact.width, fact.height):
            size = f"{fact.width} x {fact.height}"
            problems.append(f"{path}: {size} pixels, but the annotation file says {said[0]} x {said[1]}")
    refuse(str(root), problems)
    return facts


def _paint(
    source: Path,
    coco: COCO,
    masks: dict[int, Path],
    values: dict[int, int],
    split: str,
    workers: int,
    progress: Callable[..., Iterable],
) -> dict[int, tuple[int, ...]]:
    """Paint the masks of a split; image number -> classes that can be seen."""
    paintings = [
        Painting(
            path,
            coco.imgs[number]["height"],
            coco.imgs[number]["width"],
            tuple(instance_of(a, values[a["category_id"]]) for a in _instances(coco, number)),
        )
        for number, path in masks.items()
    ]
    painted = paint_all(paintings, workers=workers)
    results = list(progress(painted, total=len(paintings), label=f"{split} masks"))
    refuse(str(source), [result for result in results if isinstance(result, str)])
    return dict(zip(masks, results, strict=True))
