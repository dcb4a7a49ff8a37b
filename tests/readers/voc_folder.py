"""A tiny data set in VOC layout, for the tests."""

from pathlib import Path

import numpy as np

from sfc.readers.voc import read_voc
from tests.data.folder import write_image, write_mask

CLASSES = ("ant", "bee", "cat")
# image: class indices its mask shows
TRAIN = {"t0": (0,), "t1": (0, 2), "t2": (1,)}
VAL = {"v0": (2,), "v1": ()}


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
    """`read_voc` of the folder ROOT, which would draw masks beside it."""
    settings = dict.fromkeys(("test", "labels", "masks", "sbd", "classes"))
    settings |= {"train": "train", "val": "val", "workers": 2, "progress": lambda items, total, label: items}
    settings |= {"negatives": False, "mask_folder": root.parent / "drawing", "mask_path": root.parent / "out" / "masks"}
    return read_voc(root, **{**settings, **changes})
