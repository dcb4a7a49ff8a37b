"""Label maps that a person corrected, in any of the layouts they go out in, or as plain masks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from sfc.data.images import IGNORE, SUFFIXES, read_mask
from sfc.data.manifest import Manifest, Record
from sfc.errors import UserError, refuse
from sfc.exchange.coco import read_coco_masks
from sfc.exchange.ultralytics import MASKS as ULTRALYTICS_MASKS
from sfc.exchange.ultralytics import NAMES, Values
from sfc.exchange.voc import CLASSES, LABELMAP, Colours
from sfc.exchange.voc import MASKS as VOC_MASKS
from sfc.label_table import composed

_ARCHIVES = (".zip", ".tar", ".gz", ".7z")
_MARKS = (LABELMAP, VOC_MASKS, NAMES, "annotations/*.json")  # by which a tool's layout is known


def read_corrected(folder: Path, manifest: Manifest, *, left_out: int = 0) -> Iterator[tuple[Record, np.ndarray]]:
    """The corrected label maps of training images, in the order of the manifest.

    What `folder` holds is found out by the files in it: labelmap.txt or SegmentationClass/ (CVAT, VOC), data.yaml
    (Ultralytics), annotations/*.json (COCO); else ID.png, whose values are those of label maps.

    Args:
        left_out: training images that the manifest lacks as they show no class; errors name them as a reason.

    Yields:
        Records and (H, W) uint8: 0 background, i + 1 class i, 255 not learned from.

    Raises:
        UserError: no such folder, nothing of these in it, or a layout in a folder of its own inside it or around it;
            images of another form than PNG; with the first several faults, masks of images that are not for training,
            and ones that do not decode, have not the image's size, or hold what is no class.
    """
    masks = _masks(folder, manifest.classes)
    refuse(str(folder), _strangers(masks, manifest, left_out))
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
    files = [file for file in files if not file.name.startswith(".")]  # ._ID.json, of macOS
    labelmap, names = folder / LABELMAP, folder / NAMES
    if labelmap.exists():
        return _images(folder / VOC_MASKS, Colours(labelmap, classes).label_map)
    if (folder / VOC_MASKS).is_dir():
        _check_order(folder / CLASSES, classes)
        return _images(folder / VOC_MASKS, read_mask)
    if names.exists():
        return _images(folder / ULTRALYTICS_MASKS, Values(names, classes).label_map)
    if len(files) > 1:
        raise UserError(f"dataset.corrected: {folder} holds several annotation files; leave one of them there")
    if not files:
        _check_place(folder)
    found = read_coco_masks(files[0], classes) if files else _images(folder, read_mask)
    return {composed(id): read for id, read in found.items()}


def _check_place(folder: Path) -> None:
    """Plain masks must not be part of a tool's layout, whose own files say what their values or colours mean."""
    inside = sorted(path for mark in _MARKS for path in folder.rglob(mark))
    if inside:
        place = inside[0].parents[inside[0].parent.name == "annotations"]  # annotations/*.json lies one deeper
        raise UserError(f"dataset.corrected: {folder} holds a tool's layout in {place}; name that folder")
    around = {VOC_MASKS: (LABELMAP, CLASSES), ULTRALYTICS_MASKS: (NAMES,)}
    for place in (folder, *folder.parents[:1]):  # masks/, or masks/SPLIT/
        for mark in around.get(place.name, ()):
            if (place.parent / mark).exists():
                raise UserError(f"dataset.corrected: {folder} is a part of a tool's layout; name {place.parent}")


def _check_order(path: Path, classes: Sequence[str]) -> None:
    """Values alone say nothing of classes: where a list of names lies beside the masks, it must be the data set's."""
    if not path.exists():
        return
    try:
        found = tuple(filter(None, map(str.strip, path.read_text(encoding="utf-8-sig").splitlines())))
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text ({error}); save it as UTF-8") from None
    if found != tuple(classes):
        raise UserError(
            f"{path}: lists {', '.join(found[:5])}, ..., the data set {', '.join(classes[:5])}, ...; values of masks "
            f"are places in this list, so it must be the same, or {LABELMAP} must name the colours"
        )


def _images(folder: Path, read: Callable[[Path], np.ndarray]) -> dict[str, Callable[[], np.ndarray]]:
    """Stem -> what reads the file, of the PNG files below a folder.

    Photographs may lie beside their masks; an image without a PNG of its name, or an archive, may be meant as masks.
    """
    found: dict[str, Path] = {}
    others: list[Path] = []
    for path in sorted(folder.rglob("*")):
        if path.name.startswith("."):  # what systems leave: .DS_Store, ._ID.png
            continue
        if path.suffix.lower() != ".png":
            others += [path] if path.suffix.lower() in (*SUFFIXES, *_ARCHIVES) else []
            continue
        if (other := found.setdefault(composed(path.stem), path)) != path:
            raise UserError(f"dataset.corrected: {other} and {path} are both of image {path.stem}; remove one")
    unread = [path for path in others if composed(path.stem) not in found]
    refuse("dataset.corrected", [f"{path}: not read, as masks are PNG files; {_advice(path)}" for path in unread])
    if not found:
        raise UserError(f"dataset.corrected: no masks in {folder}; expected PNG files with the names of the images")
    return {stem: partial(read, path) for stem, path in found.items()}


def _advice(path: Path) -> str:
    return "unpack it" if path.suffix.lower() in _ARCHIVES else "save it as one, or remove it"


def _strangers(masks: dict[str, Callable], manifest: Manifest, left_out: int) -> list[str]:
    """A line for each mask that is of no training image."""
    splits = {composed(record.id): record.split for record in manifest.records}
    problems = []
    why = "; masks have the ids of out/manifest.csv as names"
    if left_out:
        why = f", or it is one of {left_out:,} without a class, which dataset.negatives: true keeps"
    for id in masks:
        if id not in splits:
            problems.append(f"the data set has no image {id}{why}")
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
