"""Reader of data sets in the layout of PASCAL VOC.

    ROOT/JPEGImages/ID.jpg
    ROOT/SegmentationClassAug/ID.png  or  ROOT/SegmentationClass/ID.png     0 background, 1 .. C, 255 ignore
    ROOT/ImageSets/Segmentation/LIST.txt     an id a line, or /JPEGImages/ID.jpg /SegmentationClassAug/ID.png
    ROOT/labels.csv  or  ROOT/Annotations/ID.xml     image-level labels; with neither they come from the masks
    ROOT/classes.txt     a class name a line; without it VOC's 20

Everything that later stages rely on is checked here, once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from sfc.data.manifest import Manifest, Record
from sfc.errors import UserError
from sfc.readers.check import inspect_all
from sfc.readers.files import Files
from sfc.readers.label_sources import disagreements, label_sources, labels_of_split
from sfc.readers.labels import TableRow, check_class_names, read_label_table
from sfc.readers.problems import refuse
from sfc.readers.voc_lists import read_lines, read_list, refuse_overlap

# fmt: off
VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)
# fmt: on


def read_voc(
    root: Path,
    *,
    train: str,
    val: str,
    test: str | None,
    labels: Path | None,
    masks: str | None,
    classes: Sequence[str] | None,
    workers: int,
    progress: Callable[..., Iterable],
) -> tuple[Manifest, dict[str, dict[str, int]]]:
    """Read and check a whole data set.

    Image-level labels of a split come from the first of these that knows any of its images: the label table
    `labels` (None: ROOT/labels.csv if there is one), ROOT/Annotations, the masks. It must then know all of them.
    Masks may be missing in the train split, whose pixel labels nothing but evaluation looks at.
    Training images without any label are left out: there is nothing to learn from them.

    Args:
        train, val, test: names of the lists of the splits; images of `test` have no masks, see `labels_of_split`.
        masks: name of the folder of masks; None: SegmentationClassAug, else SegmentationClass.
        classes: names of the C foreground classes in the order of the mask values 1 .. C.
        workers: threads that decode.
        progress: called as progress(items, total=n) on the images that are being decoded.

    Returns:
        The manifest, and for train and val images_without_label and the counts of `disagreements`.

    Raises:
        UserError: a list, image or mask is missing or does not decode; image and mask differ in size; a mask holds
            a value above C that is not 255; a label is no known class; an id comes twice or in two splits; no
            image is left to train on. The message has a line for each of the first several faults.
    """
    if not root.is_dir():
        raise UserError(f"dataset.root: no such folder {root}")
    names = class_names(root, classes)
    called = {"train": train, "val": val} | ({"test": test} if test is not None else {})
    lists = {split: read_list(root, name) for split, name in called.items()}
    refuse_overlap(root, lists, called)
    found = find_masks(root, masks)
    files = find_files(root, lists, lambda image_id: found.find(image_id) if found else None)
    return assemble(
        root, names, lists, files, train=train, labels=labels, renamed={}, workers=workers, progress=progress
    )


def assemble(
    root: Path,
    names: tuple[str, ...],
    lists: Mapping[str, Sequence[str]],
    files: Mapping[str, tuple[Path, Path | None]],
    *,
    train: str,
    labels: Path | None,
    renamed: Mapping[Path, Path],
    workers: int,
    progress: Callable[..., Iterable],
) -> tuple[Manifest, dict[str, dict[str, int]]]:
    """Check the files of every split, find their labels and make the manifest.

    Args:
        names: of the classes.
        lists: split -> ids of its images.
        files: id -> image and mask, as `find_files`.
        train: what the data set calls the training list.
        labels: see `read_voc`.
        renamed: masks that the manifest is to name otherwise than where they lie now.
        workers, progress: see `read_voc`.

    Returns, raises:
        As `read_voc`.
    """
    facts = inspect_all(str(root), list(files.values()), len(names), workers=workers, progress=progress)
    facts = dict(zip(files, facts, strict=True))
    table = label_table(root, labels)
    if table and not any(image_id in table for image_id in files):
        raise UserError(
            f"{labels or root / 'labels.csv'}: knows no image of the lists; its image_id must be as theirs, such as "
            f"{next(iter(files))}"
        )
    sources = label_sources(root, table, facts, names)
    records, counts = [], {}
    for split, ids in lists.items():
        source, found = labels_of_split(str(root), split, ids, sources)
        if split != "test":
            counts[split] = {"images_without_label": sum(not shown for shown in found.values())}
            counts[split] |= disagreements(source, found, sources)
        for image_id in ids:
            if split == "train" and not found[image_id]:
                continue
            image, mask = files[image_id]
            height, width, image_hash, _ = facts[image_id]
            mask = renamed.get(mask, mask)
            records.append(Record(image_id, split, image, mask, height, width, found[image_id], image_hash, source))
    manifest = Manifest(tuple(records), names)
    if not manifest.members("train"):
        raise UserError(f"{root}: no image of list {train} has a label; see dataset.labels")
    return manifest, counts


def class_names(root: Path, classes: Sequence[str] | None) -> tuple[str, ...]:
    """`classes`, else those of ROOT/classes.txt, else VOC's 20; UserError as `check_class_names`."""
    if classes is not None:
        return check_class_names(classes, "dataset.classes")
    path = root / "classes.txt"
    if not path.is_file():
        return VOC_CLASSES
    return check_class_names([line for line in read_lines(path) if line], str(path))


def label_table(root: Path, labels: Path | None) -> dict[str, TableRow]:
    """The label table `labels`, else ROOT/labels.csv, else an empty one."""
    path = labels if labels is not None or not (root / "labels.csv").exists() else root / "labels.csv"
    return read_label_table(path) if path is not None else {}


def find_masks(root: Path, masks: str | None) -> Files | None:
    """ROOT/MASKS, else the first of SegmentationClassAug and SegmentationClass there is; UserError if MASKS is not."""
    if masks is None:
        masks = next((n for n in ("SegmentationClassAug", "SegmentationClass") if (root / n).is_dir()), None)
    elif not (root / masks).is_dir():
        raise UserError(f"dataset.masks: no such folder {root / masks}")
    return Files(root / masks) if masks else None


def find_files(
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
