"""A tiny data set in VOC layout, for the tests."""

from pathlib import Path

import numpy as np
from PIL import Image

from sfc.data.manifest import Record
from sfc.data.voc import read_voc

CLASSES = ("ant", "bee", "cat")
# image: class indices its mask shows
TRAIN = {"t0": (0,), "t1": (0, 2), "t2": (1,)}
VAL = {"v0": (2,), "v1": ()}


def write_image(path: Path, height: int, width: int, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def write_mask(path: Path, labels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(labels.astype(np.uint8)).save(path)


def make_voc(root: Path, masks: str = "SegmentationClass") -> Path:
    """Three training and two validation images of 12 x 16, classes.txt, lists of ids and masks."""
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    for name, images in (("train", TRAIN), ("val", VAL)):
        (lists / f"{name}.txt").write_text("".join(f"{i}\n" for i in images))
        for seed, (image_id, shown) in enumerate(images.items()):
            write_image(root / "JPEGImages" / f"{image_id}.jpg", 12, 16, seed)
            label = np.zeros((12, 16))
            for row, index in enumerate(shown):
                label[row * 4 : row * 4 + 3] = index + 1
            label[-1] = 255
            write_mask(root / masks / f"{image_id}.png", label)
    (root / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    return root


def read(root: Path, **changes):
    settings = {"train": "train", "val": "val", "test": None, "labels": None, "masks": None, "classes": None}
    return read_voc(root, **{**settings, "workers": 2, "progress": lambda items, total: items, **changes})


def record(
    path: Path, size: tuple[int, int], labels=(0,), *, split: str = "train", mask: Path | None = None, seed: int = 0
) -> Record:
    """The record of a random image, which is written to `path`; its id is the file's name."""
    write_image(path, *size, seed)
    return Record(path.stem, split, path, mask, *size, labels, "hash", "table")


def records(folder: Path, sizes=((30, 40), (50, 20), (24, 24))) -> list[Record]:
    """Training records of random images; image i shows class i and class 0."""
    return [record(folder / f"{i}.png", size, tuple(sorted({0, i})), seed=i) for i, size in enumerate(sizes)]
