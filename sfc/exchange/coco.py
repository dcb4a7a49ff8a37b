"""COCO's layout: images/ID.jpg, and annotations/instances_default.json with an object for each connected region."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from scipy import ndimage

from sfc.coco_masks import decode, encode
from sfc.data.images import IGNORE
from sfc.data.manifest import Record
from sfc.errors import UserError
from sfc.exchange.images import copy_image

FILE = "annotations/instances_default.json"
_LARGEST = 65_535  # pixels a side of a JPEG file
_TOUCHING = np.ones((3, 3), int)  # pixels that share a corner are one region


def write_coco(folder: Path, items: Iterable[tuple[Record, np.ndarray]], classes: Sequence[str]) -> None:
    """Write the layout; category i + 1 is class i, and the regions are compressed run lengths, pixel for pixel.

    Arguments as `sfc.exchange.voc.write_voc`; 255 is left out, as the background is.

    Raises:
        UserError: an image cannot be read.
    """
    images, annotations = [], []
    for number, (record, label) in enumerate(items, 1):
        name = copy_image(record, folder / "images")
        images.append({"id": number, "file_name": name, "height": record.height, "width": record.width})
        for value, region in _regions(label):
            annotation = {"id": len(annotations) + 1, "image_id": number, "category_id": value}
            annotations.append({**annotation, **_shape(region), "iscrowd": 0})
    categories = [{"id": value, "name": name, "supercategory": ""} for value, name in enumerate(classes, 1)]
    path = folder / FILE
    path.parent.mkdir()
    content = {"info": {}, "licenses": [], "images": images, "categories": categories, "annotations": annotations}
    path.write_text(json.dumps(content) + "\n", encoding="utf-8")


def _regions(label: np.ndarray) -> Iterable[tuple[int, np.ndarray]]:
    """Value and pixels (H, W) bool of each connected region of a class."""
    for value in map(int, np.unique(label)):
        if value not in (0, IGNORE):
            numbers, count = ndimage.label(label == value, _TOUCHING)
            yield from ((value, numbers == number) for number in range(1, count + 1))


def _shape(region: np.ndarray) -> dict[str, Any]:
    rows, columns = (np.flatnonzero(region.any(axis=axis)) for axis in (1, 0))
    box = [columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1]
    return {"segmentation": encode(region), "area": int(region.sum()), "bbox": [float(side) for side in box]}


def read_coco_masks(path: Path, classes: Sequence[str]) -> dict[str, Callable[[], np.ndarray]]:
    """The label maps that an annotation file describes: the stem of each image's file name, and what draws it.

    Objects lie in the order of the file, later over earlier ones, crowds included: some tools write every brushed mask
    as a crowd. An image without an object is all background.

    Raises:
        UserError: no such file, or not of COCO's form; later, an object cannot be drawn or is of no class.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
        names = {category["id"]: "_".join(category["name"].split()) for category in content["categories"]}
        objects: dict[int, list] = {image["id"]: [] for image in content["images"]}
        for annotation in content["annotations"]:
            name = names[annotation["category_id"]]
            objects[annotation["image_id"]].append((annotation["id"], name, annotation["segmentation"]))
        drawn: dict[str, Callable[[], np.ndarray]] = {}
        for image in content["images"]:
            stem = PurePosixPath(image["file_name"].replace("\\", "/")).stem
            size = int(image["height"]), int(image["width"])
            if not all(0 < side <= _LARGEST for side in size):
                raise ValueError(f"image {stem} is {size[1]} x {size[0]} pixels")
            if stem in drawn:
                raise UserError(f"{path}: image {stem} comes twice")
            drawn[stem] = partial(_drawn, path, stem, objects[image["id"]], size, tuple(classes))
        if not drawn:
            raise UserError(f"{path}: describes no image; export it again")
    except (OSError, ArithmeticError, KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path}: not an annotation file of COCO ({error!r}); export it again") from None
    return drawn


def _drawn(path: Path, stem: str, objects: Sequence, size: tuple[int, int], classes: Sequence[str]) -> np.ndarray:
    label = np.zeros(size, np.uint8)
    for number, name, segmentation in objects:
        if name not in classes:
            raise UserError(f"{path}: image {stem}, annotation {number}: {name} is none of the data set's classes")
        try:
            label[decode(segmentation, *size)] = classes.index(name) + 1
        except UserError as error:
            raise UserError(f"{path}: image {stem}, annotation {number}: {error}") from None
    return label
