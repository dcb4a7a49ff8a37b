"""A data set and params so small that all real stages together take half a minute."""

from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("square", "bar")
TRAIN, VAL = 12, 4
STEPS = TRAIN // 4 * 4  # of train_cam: batches of 4, 4 epochs

PARAMS = {
    "dataset.kind": "voc",
    "dataset.root": "data",
    "dataset.train": "train",
    "dataset.val": "val",
    "ibr.n": 1,
    "dc.c_ibr": "auto",
    "dc.n_iter": "auto",
    "train_cam.backbone": {"arch": "resnet18", "weights": "none", "frozen_stages": 0, "batch_norm": "train"},
    "train_cam.precision": "fp32",
    "train_cam.epochs": 4,
    "train_cam.batch_size": 4,
    "train_cam.crop": 64,
    "train_cam.long_side": [48, 64],
    "cam.splits": ["train", "val"],
    "cam.scales": [1.0, 0.5],
    "cam.batch_size": 8,
    "cam.precision": "fp32",
    "crf.iterations": 1,
    "irn.backbone": {"arch": "resnet18", "weights": "cam", "frozen_stages": 5, "batch_norm": "frozen"},
    "irn.precision": "fp32",
    "irn.epochs": 1,
    "irn.batch_size": 4,
    "irn.crop": 64,
    "irn.radius": 3,
    "walk.radius": 2,
    "walk.steps": 4,
    "seg.backbone": {"arch": "resnet18", "weights": "cam", "frozen_stages": 0, "batch_norm": "train"},
    "seg.precision": "fp32",
    "seg.steps": 3,
    "seg.batch_size": 4,
    "seg.crop": 64,
    "seg.train_scales": [],
    "predict.scales": [1.0],
    "predict.precision": "fp32",
    "predict.crf.enabled": False,
    "analyse.images": 6,
    "analyse.precision": "fp32",
    "evaluate.sweep": {"start": 0.0, "stop": 0.6, "step": 0.2},
    "evaluate.class_sets": {"many": ["square"], "few": ["bar"]},
    "evaluate.gallery": 2,
}


def write_data(root: Path) -> None:
    """Images of one or two shapes on noise, in VOC layout with masks, a label table and a class list."""
    random = np.random.default_rng(0)
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    table = ["image_id,split,classes"]
    ids = {"train": [f"t{i}" for i in range(TRAIN)], "val": [f"v{i}" for i in range(VAL)]}
    for split, members in ids.items():
        for number, image_id in enumerate(members):
            image = random.integers(0, 90, (48, 56, 3), dtype=np.uint8)
            mask = np.zeros((48, 56), np.uint8)
            mask[4:24, 4:24] = 1
            if number % 3 == 0:
                mask[30:38, 6:50] = 2
            image[mask > 0] += (mask[mask > 0, None] * np.uint8([80, 20, 60])).astype(np.uint8)
            Image.fromarray(image).save(root / "JPEGImages" / f"{image_id}.jpg", quality=95)
            Image.fromarray(mask).save(root / "SegmentationClass" / f"{image_id}.png")
            table.append(
                f"{image_id},{split},{' '.join(name for k, name in enumerate(CLASSES, 1) if (mask == k).any())}"
            )
        (root / "ImageSets" / "Segmentation" / f"{split}.txt").write_text("\n".join(members) + "\n")
    (root / "labels.csv").write_text("\n".join(table) + "\n")
    (root / "classes.txt").write_text("\n".join(CLASSES) + "\n")
