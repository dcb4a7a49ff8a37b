"""The Semantic Boundaries Dataset (Hariharan et al., 2011): class masks of VOC images as MATLAB files.

    SBD/cls/ID.mat     struct GTcls with the fields Boundaries, Segmentation (0 background, 1 .. 20), CategoriesPresent
    SBD/train.txt, SBD/val.txt     an id a line; not the splits of VOC

SBD is the folder `dataset` of its archive.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from scipy.io import loadmat

from sfc.data.images import palette_png
from sfc.data.pool import ordered_map
from sfc.errors import UserError, refuse
from sfc.readers.voc_lists import list_path, read_ids, read_list

FULL_VOC_TRAIN, FULL_TRAIN_AUG = 1_464, 10_582  # ids of VOC 2012's train list, and of the augmented one made with it


def sbd_mask_path(sbd: Path, image_id: str) -> Path:
    """Where SBD has the mask of an image."""
    return sbd / "cls" / f"{image_id}.mat"


def read_sbd_mask(path: Path | str) -> np.ndarray:
    """The label map GTcls.Segmentation of a .mat file, (H, W) uint8; UserError if it is missing or not of that form."""
    if not os.path.isfile(path):
        raise UserError(f"{path}: no such file")
    try:
        mask = loadmat(path, variable_names=["GTcls"])["GTcls"]["Segmentation"][0, 0]
    except MemoryError:
        raise
    except Exception as error:  # a damaged file can break scipy's parser anywhere
        raise UserError(f"{path}: not a mask of SBD ({type(error).__name__}: {error}); replace the file") from None
    if not isinstance(mask, np.ndarray) or mask.ndim != 2 or mask.dtype != np.uint8:
        raise UserError(f"{path}: not a mask of SBD (GTcls.Segmentation is no 8-bit matrix); replace the file")
    return mask


def draw_masks(sbd: Path, ids: Sequence[str], folder: Path, *, workers: int, progress: Callable[..., Iterable]) -> None:
    """Write the masks of images as FOLDER/ID.png, 8-bit palette images in VOC's colours.

    Args:
        folder: made if it is not there.
        workers: processes; with 0 or 1 all is drawn in this one.
        progress: called as progress(items, total=n) on the masks that are being drawn.

    Raises:
        UserError: with a line for each of the first several .mat files that are broken; or as `ordered_map`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    work = partial(_draw, sbd, folder)
    faults = list(progress(ordered_map(work, ids, workers=workers), total=len(ids)))
    refuse(str(sbd), [fault for fault in faults if fault])


def _draw(sbd: Path, folder: Path, image_id: str) -> str | None:
    try:
        label = read_sbd_mask(sbd_mask_path(sbd, image_id))
    except UserError as error:
        return str(error)
    (folder / f"{image_id}.png").write_bytes(palette_png(label))
    return None


def augmented_list(root: Path, sbd: Path) -> list[str]:
    """VOC's augmented training list: SBD's train and val and VOC's train, without VOC's val.

    Sorted, as the published list is: its order decides which images share a batch.

    Args:
        root: the VOC 2012 devkit, with the lists train and val.

    Raises:
        UserError: a list is missing or broken; or VOC's train list is the full one and the result is not the
            published 10,582 ids.
    """
    voc_train = read_list(root, "train")
    both = {*read_ids(sbd / "train.txt"), *read_ids(sbd / "val.txt")}
    ids = sorted({*both, *voc_train} - set(read_list(root, "val")))
    if len(voc_train) == FULL_VOC_TRAIN and len(ids) != FULL_TRAIN_AUG:
        raise UserError(
            f"{sbd}: train.txt and val.txt make an augmented list of {len(ids):,} images, expected {FULL_TRAIN_AUG:,}; "
            f"replace the lists, or write the list you want to {list_path(root, 'train_aug')}"
        )
    return ids
