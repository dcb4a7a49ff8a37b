"""A small VOC 2012 devkit and SBD in their true formats, for the tests."""

from pathlib import Path

import numpy as np
from scipy.io import savemat
from scipy.sparse import csc_matrix

from sfc.data.images import palette_png
from sfc.readers.voc import VOC_CLASSES
from tests.data.folder import write_image

HEIGHT, WIDTH = 12, 16
# id: 0-based class indices of its objects
TRAIN = {"2007_000032": (0, 14), "2007_000039": (19,)}  # VOC's own train list
VAL = {"2007_000033": (0,), "2008_000009": (9, 14)}
TEST = ("2008_000006", "2008_000011")
SBD_TRAIN = {"2008_000002": (19,), "2007_000032": (0, 14), "2008_000009": (9,)}  # the last one is in VOC's val
SBD_VAL = {"2008_000003": (18, 14)}
AUGMENTED = sorted({*TRAIN, *SBD_TRAIN, *SBD_VAL} - set(VAL))


def label_map(classes) -> np.ndarray:
    """A stripe of four pixels a class, on background."""
    label = np.zeros((HEIGHT, WIDTH), np.uint8)
    for row, index in enumerate(classes):
        label[1 + row * 4 : 4 + row * 4] = index + 1
    return label


def make_devkit(folder: Path) -> Path:
    """VOCdevkit/VOC2012 as the archives of trainval and test unpack in one folder; returns that folder."""
    root = folder / "VOCdevkit" / "VOC2012"
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    for name, ids in (("train", TRAIN), ("val", VAL), ("trainval", {**TRAIN, **VAL}), ("test", TEST)):
        (lists / f"{name}.txt").write_text("".join(f"{i}\n" for i in ids))
    known = {**SBD_TRAIN, **SBD_VAL, **TRAIN, **VAL}
    for seed, image_id in enumerate([*known, *TEST]):
        write_image(root / "JPEGImages" / f"{image_id}.jpg", HEIGHT, WIDTH, seed)
    for image_id, classes in known.items():
        write_annotation(root, image_id, classes)
    for image_id, classes in {**TRAIN, **VAL}.items():
        label = label_map(classes)
        label[0] = 255  # VOC draws a border of ignored pixels, SBD does not
        write_palette_mask(root / "SegmentationClass" / f"{image_id}.png", label)
    return root


def write_palette_mask(path: Path, label: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(palette_png(label))


def write_annotation(root: Path, image_id: str, classes) -> None:
    """One object a class, the last one twice, with the fields of the devkit."""
    objects = "".join(
        f"<object>\n<name>{VOC_CLASSES[index]}</name>\n<pose>Left</pose>\n<truncated>0</truncated>\n"
        f"<difficult>{number % 2}</difficult>\n"
        "<bndbox><xmax>9</xmax><xmin>2</xmin><ymax>8</ymax><ymin>1</ymin></bndbox>\n"
        f"<part><name>head</name><bndbox><xmin>3</xmin><ymin>1</ymin><xmax>5</xmax><ymax>2</ymax></bndbox></part>\n"
        "</object>\n"
        for number, index in enumerate([*classes, *classes[-1:]])
    )
    path = root / "Annotations" / f"{image_id}.xml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(
        f"<annotation>\n<folder>VOC2012</folder>\n<filename>{image_id}.jpg</filename>\n"
        f"<source><database>The VOC2008 Database</database><image>flickr</image></source>\n"
        f"<size><width>{WIDTH}</width><height>{HEIGHT}</height><depth>3</depth></size>\n<segmented>1</segmented>\n"
        f"{objects}</annotation>\n"
    )


def make_sbd(folder: Path) -> Path:
    """The folder `dataset` of SBD: cls/*.mat, train.txt, val.txt."""
    sbd = folder / "benchmark_RELEASE" / "dataset"
    (sbd / "cls").mkdir(parents=True)
    for name, images in (("train", SBD_TRAIN), ("val", SBD_VAL)):
        (sbd / f"{name}.txt").write_text("".join(f"{i}\n" for i in images))
        for image_id, classes in images.items():
            write_mat(sbd / "cls" / f"{image_id}.mat", label_map(classes))
    return sbd


def write_mat(path: Path, label: np.ndarray) -> None:
    """struct GTcls: Boundaries, a cell of a sparse logical matrix a class; Segmentation; CategoriesPresent."""
    boundaries = np.empty((len(VOC_CLASSES), 1), object)
    for index in range(len(VOC_CLASSES)):
        boundaries[index, 0] = csc_matrix(np.diff(label == index + 1, axis=0, prepend=False))
    present = np.unique(label[label > 0])[:, None]
    truth = {"Boundaries": boundaries, "Segmentation": label, "CategoriesPresent": present}
    savemat(path, {"GTcls": truth}, do_compression=True)
