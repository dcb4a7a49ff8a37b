"""Label maps that a person corrected, in any of the layouts they go out in, or as plain masks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from sfc.data.images import IGNORE, read_mask
from sfc.data.manifest import Manifest, Record
from sfc.errors import UserError, refuse
from sfc.exchange.coco import read_coco_masks
from sfc.exchange.ultralytics import MASKS as ULTRALYTICS_MASKS
from sfc.exchange.ultralytics import NAMES, Values
from sfc.exchange.voc import LABELMAP, Colours
from sfc.exchange.voc import MASKS as VOC_MASKS
from sfc.label_table import composed


def read_corrected(folder: Path, manifest: Manifest) -> Iterator[tuple[Record, np.ndarray]]:
    """The corrected label maps of training images, in the order of the manifest.

    What `folder` holds is found out by the files in it: labelmap.txt or SegmentationClass/ (CVAT, VOC), data.yaml
    (Ultralytics), annotations/*.json (COCO); else ID.png, whose values are those of label maps.

    Yields:
        Records and (H, W) uint8: 0 background, i + 1 class i, 255 not learned from.

    Raises:
        UserError: no such folder, or nothing of these in it; with the first several faults, masks of images that are
            not for training, and ones that do not decode, have not the image's size, or hold what is no class.
    """
    masks = _masks(folder, manifest.classes)
    refuse(str(folder), _strangers(masks, manifest))
    problems = []
    for record in manifest.members("train"):
        if (read := masks.get(composed(record.id))) is None:
            continue
        try:
            yield record, _fitting(record, read(), len(manifest.classes))
        except UserError as error:
            problems.append(str(error))
    refuse(str(folder), problems)


def _masks(folder: Path, classes: Sequence[str]) -> dict[str, Callable[[], np.ndarray]]:
    """Image id -> what reads its label map."""
    if not folder.is_dir():
        raise UserError(f"dataset.corrected: no such folder {folder}; an archive wants to be unpacked")
    files = [*sorted(folder.glob("annotations/*.json")), *sorted(folder.glob("*.json"))]
    labelmap, names = folder / LABELMAP, folder / NAMES
    if labelmap.exists():
        return _images(folder / VOC_MASKS, Colours(labelmap, classes).label_map)
    if (folder / VOC_MASKS).is_dir():
        return _images(folder / VOC_MASKS, read_mask)
    if names.exists():
        return _images(folder / ULTRALYTICS_MASKS, Values(names, classes).label_map)
    if len(files) > 1:
        raise UserError(f"dataset.corrected: {folder} holds several annotation files; leave one of them there")
    found = read_coco_masks(files[0], classes) if files else _images(folder, read_mask)
    return {composed(id): read for id, read in found.items()}


def _images(folder: Path, read: Callable[[Path], np.ndarray]) -> dict[str, Callable[[], np.ndarray]]:
    """Stem -> what reads the file, of the PNG files below a folder."""
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() != ".png":
            continue
        if (other := found.setdefault(composed(path.stem), path)) != path:
            raise UserError(f"dataset.corrected: {other} and {path} are both of image {path.stem}; remove one")
    if not found:
        raise UserError(f"dataset.corrected: no masks in {folder}; expected PNG files with the names of the images")
    return {stem: partial(read, path) for stem, path in found.items()}


def _strangers(masks: dict[str, Callable], manifest: Manifest) -> list[str]:
    """A line for each mask that is of no training image."""
    splits = {composed(record.id): record.split for record in manifest.records}
    problems = []
    for id in masks:
        if id not in splits:
            problems.append(f"the data set has no image {id}; masks have the ids of out/manifest.csv as names")
        elif splits[id] != "train":
            problems.append(f"{id} is of split {splits[id]}, which nothing learns from; move its mask elsewhere")
    return problems


def _fitting(record: Record, label: np.ndarray, num_classes: int) -> np.ndarray:
    if label.shape != (record.height, record.width):
        found, wanted = f"{label.shape[1]} x {label.shape[0]}", f"{record.width} x {record.height}"
        raise UserError(f"the mask of {record.id} is {found} pixels, its image {wanted}")
    largest = label[label != IGNORE].max(initial=0)
    if largest > num_classes:
        raise UserError(f"the mask of {record.id} holds {largest}, which is none of the {num_classes} classes")
    return label
