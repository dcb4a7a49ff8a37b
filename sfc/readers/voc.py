"""Reader of data sets in the layout of PASCAL VOC, with or without the masks of the Semantic Boundaries Dataset.

    ROOT/JPEGImages/ID.jpg
    ROOT/SegmentationClassAug/ID.png  or  ROOT/SegmentationClass/ID.png     0 background, 1 .. C, 255 ignore
    ROOT/ImageSets/Segmentation/LIST.txt     an id a line, or /JPEGImages/ID.jpg /SegmentationClassAug/ID.png
    ROOT/labels.csv  or  ROOT/Annotations/ID.xml     image-level labels; with neither they come from the masks
    ROOT/classes.txt     a class name a line; without it VOC's 20

VOCdevkit/VOC2012 is one as its archive unpacks. Everything that later stages rely on is checked here, once.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

from sfc.data.manifest import Manifest, Record
from sfc.errors import UserError, refuse
from sfc.label_table import TableRow, read_label_table
from sfc.readers.check import Facts, inspect_all
from sfc.readers.files import Files, check_root
from sfc.readers.label_sources import disagreements, label_sources, labels_of_split
from sfc.readers.labels import check_class_names
from sfc.readers.sbd import augmented_list, draw_masks, sbd_mask_path
from sfc.readers.voc_lists import list_path, read_lines, read_list, refuse_overlap

# fmt: off
VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)
# fmt: on

AUGMENTED = ("train_aug", "trainaug")  # names of the list of 10,582 images in public code


def read_voc(
    root: Path,
    *,
    train: str,
    val: str,
    test: str | None,
    labels: Path | None,
    masks: str | None,
    sbd: Path | None,
    classes: Sequence[str] | None,
    negatives: bool,
    mask_folder: Path,
    mask_path: Path,
    workers: int,
    progress: Callable[..., Iterable],
) -> tuple[Manifest, dict[str, int | dict[str, int]]]:
    """Read and check a whole data set.

    Image-level labels of a split come from the first of these that knows any of its images: the label table
    `labels` (None: ROOT/labels.csv if there is one), ROOT/Annotations, the masks. It must then know all of them.
    Those of the test split come from the table as far as it knows them, else there are none, see `labels_of_split`.
    Masks may be missing in the train split, whose pixel labels nothing but evaluation looks at.
    An image that a source knows and names no class of shows none, see `NO_CLASS` in `sfc.readers.label_sources`.

    Args:
        train, val, test: names of lists; `train_aug` and `trainaug` need no file, see `augmented_list`. Images of
            `test` have no masks.
        masks: name of the folder of masks, such as SegmentationClass for VOC's official ones alone, on which papers
            measure training images; None: SegmentationClassAug, else SegmentationClass and `sbd`.
        sbd: folder `dataset` of SBD: what the folder of masks lacks is drawn from it, where `masks` is None.
        classes: names of the C foreground classes in the order of the mask values 1 .. C.
        negatives: whether training images that show none of the classes stay.
        mask_folder: where to draw masks of SBD; made only if there are any to draw.
        mask_path: the final path of that folder, which the manifest names.
        workers: threads that decode, and processes that draw.
        progress: called as progress(items, total=n, label=what is being done).

    Returns:
        The manifest, and counts of images: `images_with_rotation_tag`, with `sbd` `masks_from_sbd`, and for train and
        val each `images_without_label` and those of `disagreements`.

    Raises:
        UserError: a list, image or mask is missing or does not decode; image and mask differ in size; a mask holds
            a value above C that is not 255; a label is no known class; an id comes twice or in two splits, or the
            label table has it in another split than the lists; no training image has a label. The message has a line
            for each of the first several faults. Or as `augmented_list` and `draw_masks`.
    """
    check_root(root, "JPEGImages/")
    if sbd is not None and not os.path.isdir(sbd / "cls"):
        raise UserError(f"dataset.sbd: no folder {sbd / 'cls'}; name the folder with SBD's cls/, or write null")
    names = _class_names(root, classes)
    called = {"train": train, "val": val} | ({"test": test} if test is not None else {})
    lists = {split: _ids(root, name, sbd) for split, name in called.items()}
    refuse_overlap(root, lists, called)
    files = _files(root, lists, partial(_mask, _masks(root, masks), None if masks else sbd, mask_folder))
    drawn = {i: None for i, (_, mask) in files.items() if mask is not None and mask.parent == mask_folder}
    if drawn:
        draw_masks(sbd, [*drawn], mask_folder, workers=workers, progress=partial(progress, label="masks of SBD"))
    facts = _facts(root, files, len(names), sbd, mask_folder, workers, progress)

    sources = label_sources(root, _label_table(root, labels, lists, called), facts, names)
    records, counts = [], {} if sbd is None else {"masks_from_sbd": len(drawn)}
    for split, ids in lists.items():
        source, found = labels_of_split(str(root), split, ids, sources)
        if split != "test":
            counts[split] = {"images_without_label": sum(not shown for shown in found.values())}
            counts[split] |= disagreements(source, found, sources)
        for image_id in ids if split != "train" or negatives else filter(found.get, ids):
            image, mask = files[image_id]
            mask = mask_path / mask.name if image_id in drawn else mask
            height, width, image_hash = facts[image_id][:3]
            records.append(Record(image_id, split, image, mask, height, width, found[image_id], image_hash, source))
    if not any(record.split == "train" and record.labels for record in records):
        raise UserError(f"{root}: no image of list {train} has a label; see dataset.labels")
    counts["images_with_rotation_tag"] = sum(facts[record.id].rotated for record in records)
    return Manifest(tuple(records), names), counts


def _facts(
    root: Path,
    files: Mapping[str, tuple[Path, Path | None]],
    num_classes: int,
    sbd: Path | None,
    mask_folder: Path,
    workers: int,
    progress: Callable[..., Iterable],
) -> dict[str, Facts]:
    """What each image and its mask show; UserError as `inspect_all`."""
    try:
        facts = inspect_all(str(root), list(files.values()), num_classes, workers=workers, progress=progress)
    except UserError as error:  # drawn masks go with the stage that fails: name the files they were drawn from
        folder = re.escape(str(mask_folder / "_")).removesuffix("_")
        raise UserError(re.sub(rf"{folder}(\S+)\.png", lambda m: str(sbd_mask_path(sbd, m[1])), str(error))) from None
    return dict(zip(files, facts, strict=True))


def _class_names(root: Path, classes: Sequence[str] | None) -> tuple[str, ...]:
    """`classes`, else those of ROOT/classes.txt, else VOC's 20; UserError as `check_class_names`."""
    if classes is not None:
        return check_class_names(classes, "dataset.classes")
    path = root / "classes.txt"
    if not path.is_file():
        return VOC_CLASSES
    return check_class_names([line for line in read_lines(path) if line], str(path))


def _ids(root: Path, name: str, sbd: Path | None) -> list[str]:
    if name not in AUGMENTED or os.path.isfile(list_path(root, name)):
        return read_list(root, name)
    if sbd is None:
        raise UserError(f"{list_path(root, name)}: no such list; name SBD's folder in dataset.sbd to have it made")
    return augmented_list(root, sbd)


def _masks(root: Path, masks: str | None) -> Files | None:
    """ROOT/MASKS, else the first of SegmentationClassAug and SegmentationClass there is; UserError if MASKS is not."""
    if masks is None:
        masks = next((n for n in ("SegmentationClassAug", "SegmentationClass") if (root / n).is_dir()), None)
    elif not os.path.isdir(root / masks):
        raise UserError(f"dataset.masks: no such folder {root / masks}")
    return Files(root / masks) if masks else None


def _mask(masks: Files | None, sbd: Path | None, drawn: Path, image_id: str) -> Path | None:
    """The data set's own mask, which is the finer one, else where SBD's will be drawn."""
    mask = masks.find(image_id) if masks else None
    if mask is None and sbd is not None and os.path.isfile(sbd_mask_path(sbd, image_id)):
        return drawn / f"{image_id}.png"
    return mask


def _files(
    root: Path, lists: Mapping[str, Sequence[str]], mask_of: Callable[[str], Path | None]
) -> dict[str, tuple[Path, Path | None]]:
    """Image and mask of each id; UserError for an image that is missing, or a mask of the val split."""
    images = Files(root / "JPEGImages")
    if not images.folder.is_dir():
        raise UserError(f"dataset.root: no folder {images.folder}; name the folder that has JPEGImages/ in it")
    files, problems = {}, []
    for split, ids in lists.items():
        for image_id in ids:
            image = images.find(image_id)
            mask = mask_of(image_id) if split != "test" else None
            if image is None:
                problems.append(f"image {image_id} of the {split} list: no file {images.folder / image_id}.jpg")
            if mask is None and split == "val":
                problems.append(f"image {image_id} of the val list has no mask; models are measured on them")
            files[image_id] = (image, mask)
    refuse(str(root), problems)
    return files


def _label_table(
    root: Path, labels: Path | None, lists: Mapping[str, Sequence[str]], called: Mapping[str, str]
) -> dict[str, TableRow]:
    """The table `labels`, else ROOT/labels.csv, else an empty one.

    Args:
        lists: the ids of each split.
        called: the name of each split's list.

    Raises:
        UserError: the table has no image of the lists, or its column split has one in another split than they.
    """
    path = labels if labels is not None or not (root / "labels.csv").exists() else root / "labels.csv"
    table = read_label_table(path) if path is not None else {}
    listed = [(split, image_id) for split, ids in lists.items() for image_id in ids if image_id in table]
    if path is not None and not listed:
        known = next(iter(lists["train"]))
        raise UserError(f"{path}: knows no image of the lists; its image_id must be as theirs, such as {known}")
    problems = []
    for split, image_id in listed:
        said = table[image_id].split
        if said not in (split, called[split]) and not _other_list(root, said, called):
            problems.append(f"image {image_id} is of split {said!r}, but in the list {called[split]}; correct either")
    refuse(str(path), problems)
    return table


def _other_list(root: Path, name: str, called: Mapping[str, str]) -> bool:
    """Whether `name` is a list that is not read here, such as train_aug where images of train are: no contradiction."""
    others = name not in (*called, *called.values())
    return others and (name in AUGMENTED or os.path.isfile(list_path(root, name)))
