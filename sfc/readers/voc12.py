"""Reader of PASCAL VOC 2012 as its devkit unpacks, with the masks of the Semantic Boundaries Dataset.

ROOT = VOCdevkit/VOC2012, in the layout `sfc.readers.voc` describes. Beside that reader, this one
- makes the augmented training list where there is no file of it,
- takes masks that the devkit lacks from SBD's .mat files,
- reads a test split, whose images have no masks,
- counts the images on which the sources of image-level labels disagree.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

from sfc.data.manifest import Manifest
from sfc.errors import UserError
from sfc.readers.files import Files
from sfc.readers.sbd import augmented_list, draw_masks, sbd_mask_path
from sfc.readers.voc import assemble, class_names, find_files, find_masks
from sfc.readers.voc_lists import list_path, read_list, refuse_overlap

AUGMENTED = ("train_aug", "trainaug")  # names of the list of 10,582 images in public code


def read_voc12(
    root: Path,
    *,
    train: str,
    val: str,
    test: str | None,
    labels: Path | None,
    masks: str | None,
    sbd: Path | None,
    classes: Sequence[str] | None,
    mask_folder: Path,
    mask_path: Path,
    workers: int,
    progress: Callable[..., Iterable],
) -> tuple[Manifest, dict[str, int | dict[str, int]]]:
    """Read and check VOC 2012.

    Image-level labels: as `sfc.readers.voc.read_voc`. Those of the test split come from the label table as far as it
    knows them, else there are none: its annotation files, where there are any, do not list all objects.
    Masks: those of a folder of the devkit; without a name for it and with `sbd`, what is not there is drawn from SBD.

    Args:
        train, val, test: names of lists; `train_aug` and `trainaug` need no file, see `augmented_list`.
        masks: name of the folder of masks, such as SegmentationClass for the official ones alone, on which papers
            measure training images; None: SegmentationClassAug, else SegmentationClass and `sbd`.
        sbd: folder `dataset` of SBD.
        classes: names of the C foreground classes in the order of the mask values 1 .. C.
        mask_folder: where to draw masks of SBD; made only if there are any to draw.
        mask_path: the final path of that folder, which the manifest names.
        workers: threads and processes.
        progress: called as progress(items, total=n, label=what is being done).

    Returns:
        The manifest, and counts of images: `masks_from_sbd`, and for train and val those of `read_voc`.

    Raises:
        UserError: as `read_voc` and `augmented_list`; or a .mat file is broken.
    """
    if not root.is_dir():
        raise UserError(f"dataset.root: no such folder {root}")
    if sbd is not None and not (sbd / "cls").is_dir():
        raise UserError(f"dataset.sbd: no folder {sbd / 'cls'}; name the folder with SBD's cls/, or write null")
    names = class_names(root, classes)
    called = {"train": train, "val": val} | ({"test": test} if test is not None else {})
    lists = {split: _ids(root, name, sbd) for split, name in called.items()}
    refuse_overlap(root, lists, called)
    files = find_files(root, lists, partial(_mask, find_masks(root, masks), None if masks else sbd, mask_folder))
    from_sbd = [image_id for image_id, (_, mask) in files.items() if mask is not None and mask.parent == mask_folder]
    if from_sbd:
        draw_masks(sbd, from_sbd, mask_folder, workers=workers, progress=partial(progress, label="masks of SBD"))
    try:
        manifest, counts = assemble(
            root,
            names,
            lists,
            files,
            train=train,
            labels=labels,
            renamed={mask_folder / f"{image_id}.png": mask_path / f"{image_id}.png" for image_id in from_sbd},
            workers=workers,
            progress=partial(progress, label="images and masks"),
        )
    except UserError as error:  # drawn masks go with the stage that fails: name the files they were drawn from
        drawn = re.escape(str(mask_folder / "_")).removesuffix("_")
        raise UserError(re.sub(rf"{drawn}(\S+)\.png", lambda m: str(sbd_mask_path(sbd, m[1])), str(error))) from None
    return manifest, {"masks_from_sbd": len(from_sbd), **counts}


def _ids(root: Path, name: str, sbd: Path | None) -> list[str]:
    if name not in AUGMENTED or list_path(root, name).is_file():
        return read_list(root, name)
    if sbd is None:
        raise UserError(f"{list_path(root, name)}: no such list; name SBD's folder in dataset.sbd to have it made")
    return augmented_list(root, sbd)


def _mask(masks: Files | None, sbd: Path | None, drawn: Path, image_id: str) -> Path | None:
    """The devkit's own mask, which is the finer one, else where SBD's will be drawn."""
    mask = masks.find(image_id) if masks else None
    if mask is None and sbd is not None and sbd_mask_path(sbd, image_id).is_file():
        return drawn / f"{image_id}.png"
    return mask
