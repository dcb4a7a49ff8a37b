"""Reader of data sets in the layout of PASCAL VOC.

    ROOT/JPEGImages/ID.jpg
    ROOT/SegmentationClassAug/ID.png  or  ROOT/SegmentationClass/ID.png     0 background, 1 .. C, 255 ignore
    ROOT/ImageSets/Segmentation/LIST.txt     an id a line, or /JPEGImages/ID.jpg /SegmentationClassAug/ID.png
    ROOT/labels.csv  or  ROOT/Annotations/ID.xml     image-level labels; with neither they come from the masks
    ROOT/classes.txt     a class name a line; without it VOC's 20

Everything that later stages rely on is checked here, once.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from sfc.data.check import Facts, inspect_all
from sfc.data.labels import TableRow, check_class_names, class_indices, read_label_table, read_xml_labels
from sfc.data.manifest import Manifest, Record
from sfc.data.problems import refuse
from sfc.errors import UserError

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
        train, val, test: names of the lists of the splits; images of `test` have neither masks nor labels.
        masks: name of the folder of masks; None: SegmentationClassAug, else SegmentationClass.
        classes: names of the C foreground classes in the order of the mask values 1 .. C.
        workers: threads that decode.
        progress: called as progress(items, total=n) on the images that are being decoded.

    Returns:
        The manifest, and for train and val the number of images_without_label.

    Raises:
        UserError: a list, image or mask is missing or does not decode; image and mask differ in size; a mask holds
            a value above C that is not 255; a label is no known class; an id comes twice or in two splits; no
            image is left to train on. The message has a line for each of the first several faults.
    """
    if not root.is_dir():
        raise UserError(f"dataset.root: no such folder {root}")
    names = _class_names(root, classes)
    lists = {"train": read_list(root, train), "val": read_list(root, val)}
    if test is not None:
        lists["test"] = read_list(root, test)
    check_disjoint(root, {"train": train, "val": val, "test": test}, lists)
    files = _find_files(root, lists, masks)
    facts = inspect_all(str(root), list(files.values()), len(names), workers=workers, progress=progress)
    facts = dict(zip(files, facts, strict=True))

    table_path = labels if labels is not None or not (root / "labels.csv").exists() else root / "labels.csv"
    table = read_label_table(table_path) if table_path is not None else {}
    records, without = [], {}
    for split, ids in lists.items():
        source, found = _image_labels(root, split, ids, table, facts, names)
        if split != "test":
            without[split] = {"images_without_label": sum(not shown for shown in found.values())}
        for image_id in ids:
            if split == "train" and not found[image_id]:
                continue
            height, width, image_hash, _ = facts[image_id]
            records.append(
                Record(image_id, split, *files[image_id], height, width, found[image_id], image_hash, source)
            )
    manifest = Manifest(tuple(records), names)
    if not manifest.members("train"):
        raise UserError(f"{root}: no image of list {train} has a label; see dataset.labels")
    return manifest, without


def read_list(root: Path, name: str) -> list[str]:
    """The image ids of ImageSets/Segmentation/NAME.txt, in either public line format.

    Raises:
        UserError: no such list, an empty list, a line of another form, or an id that comes twice.
    """
    path = root / "ImageSets" / "Segmentation" / f"{name}.txt"
    if not path.is_file():
        raise UserError(f"{path}: no such list; see dataset.train, val and test")
    ids: dict[str, int] = {}
    problems = []
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), 1):
        fields = line.split()
        if not fields:
            continue
        image_id = Path(fields[0]).stem if "/" in fields[0] else fields[0]
        if len(fields) > 2 or (len(fields) == 2 and "/" not in fields[0]):
            problems.append(f"line {number}: expected an id, or the paths of an image and its mask")
        elif image_id in ids:
            problems.append(f"line {number}: image {image_id} stands on line {ids[image_id]} already")
        ids.setdefault(image_id, number)
    refuse(str(path), problems)
    if not ids:
        raise UserError(f"{path}: the list is empty")
    return list(ids)


def check_disjoint(root: Path, names: dict[str, str | None], lists: dict[str, list[str]]) -> None:
    """Raise UserError if an id is in the lists of two splits; `names` are those of the lists."""
    problems = []
    for (first, ids), (second, others) in itertools.combinations(lists.items(), 2):
        both = sorted(set(ids) & set(others))
        problems += [f"image {image_id} is in both lists, {names[first]} and {names[second]}" for image_id in both]
    refuse(str(root), problems)


def _class_names(root: Path, classes: Sequence[str] | None) -> tuple[str, ...]:
    if classes is not None:
        return check_class_names(classes, "dataset.classes")
    path = root / "classes.txt"
    if not path.is_file():
        return VOC_CLASSES
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    return check_class_names([line.strip() for line in lines if line.strip()], str(path))


def _find_files(root: Path, lists: dict[str, list[str]], masks: str | None) -> dict[str, tuple[Path, Path | None]]:
    """Image and mask of each id; a train image may lack a mask."""
    if masks is None:
        masks = next((n for n in ("SegmentationClassAug", "SegmentationClass") if (root / n).is_dir()), None)
    elif not (root / masks).is_dir():
        raise UserError(f"dataset.masks: no such folder {root / masks}")
    files, problems = {}, []
    for split, ids in lists.items():
        for image_id in ids:
            image = root / "JPEGImages" / f"{image_id}.jpg"
            mask = root / masks / f"{image_id}.png" if masks and split != "test" else None
            if not image.is_file():
                problems.append(f"image {image_id} of the {split} list: no file {image}")
            if mask is None or not mask.is_file():
                if split == "val":
                    problems.append(f"image {image_id} of the val list has no mask; models are measured on them")
                mask = None
            files[image_id] = (image, mask)
    refuse(str(root), problems)
    return files


def _image_labels(
    root: Path,
    split: str,
    ids: Sequence[str],
    table: dict[str, TableRow],
    facts: dict[str, Facts],
    names: Sequence[str],
) -> tuple[str, dict[str, tuple[int, ...]]]:
    """Name of the label source of a split, and the class indices of each of its images."""
    if split == "test":
        return "none", dict.fromkeys(ids, ())

    def annotation(image_id: str) -> Path:
        return root / "Annotations" / f"{image_id}.xml"

    if any(image_id in table for image_id in ids):
        source, known = "table", table.__contains__
    elif any(annotation(image_id).is_file() for image_id in ids):
        source, known = "xml", lambda image_id: annotation(image_id).is_file()
    else:
        source, known = "masks", lambda image_id: facts[image_id].mask_classes is not None
    labels, problems = {}, []
    for image_id in ids:
        try:
            if not known(image_id):
                raise UserError(f"no label; those of the {split} split come from the {source}")
            if source == "masks":
                labels[image_id] = facts[image_id].mask_classes
            else:
                found = table[image_id].classes if source == "table" else read_xml_labels(annotation(image_id))
                labels[image_id] = class_indices(found, names)
        except UserError as error:
            problems.append(f"image {image_id}: {error}")
    refuse(str(root), problems)
    return source, labels
