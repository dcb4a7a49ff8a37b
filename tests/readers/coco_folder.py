"""A tiny data set in the true form of MS COCO 2014, for the tests."""

import json
from pathlib import Path

import numpy as np
from pycocotools import mask as run_lengths

from tests.data.folder import write_image

SIZE = 12, 16  # height, width
CATEGORIES = [  # out of order and with gaps, as COCO's ids have them
    {"id": 44, "name": "bottle", "supercategory": "kitchen"},
    {"id": 1, "name": "person", "supercategory": "person"},
    {"id": 10, "name": "traffic light", "supercategory": "outdoor"},
]
CLASSES = ("person", "traffic_light", "bottle")


def rectangle(top: int, left: int, bottom: int, right: int) -> np.ndarray:
    pixels = np.zeros(SIZE, bool)
    pixels[top:bottom, left:right] = True
    return pixels


def polygon(top: int, left: int, bottom: int, right: int) -> list[list[float]]:
    return [[left, top, right, top, right, bottom, left, bottom]]


def uncompressed(pixels: np.ndarray) -> dict:
    """Run lengths down the columns, beginning with zeros."""
    flat = pixels.ravel(order="F").astype(int)
    ends = np.flatnonzero(np.diff(np.concatenate([[0], flat]))).tolist()
    return {"size": list(pixels.shape), "counts": np.diff([0, *ends, flat.size]).tolist()}


def compressed(pixels: np.ndarray) -> dict:
    coded = run_lengths.encode(np.asfortranarray(pixels.astype(np.uint8)))
    return {"size": list(coded["size"]), "counts": coded["counts"].decode()}


def annotation(category: int, segmentation: list | dict, iscrowd: int = 0) -> dict:
    return {"category_id": category, "segmentation": segmentation, "iscrowd": iscrowd, "bbox": [0, 0, 1, 1], "area": 1}


# image number: its annotations
TRAIN = {
    25: [annotation(10, uncompressed(rectangle(0, 0, 6, 8))), annotation(44, compressed(rectangle(3, 4, 9, 12)))],
    9: [annotation(1, polygon(2, 2, 8, 10)), annotation(44, uncompressed(rectangle(0, 0, 12, 16)), iscrowd=1)],
    30: [annotation(1, uncompressed(rectangle(0, 0, 2, 2)), iscrowd=1)],  # a crowd alone
    34: [],
    36: [annotation(44, polygon(4, 4, 6, 6)), annotation(1, polygon(2, 2, 10, 12))],  # the first is hidden
}
VAL = {42: [annotation(1, polygon(1, 1, 5, 5))], 73: []}
TEST = {1: [], 14: []}


def make_coco(root: Path) -> Path:
    """Annotation files and images of train2014, val2014 and test2014."""
    (root / "annotations").mkdir(parents=True)
    for split, images in (("train2014", TRAIN), ("val2014", VAL), ("test2014", TEST)):
        found = [
            {"id": i, "file_name": f"COCO_{split}_{i:012d}.jpg", "height": SIZE[0], "width": SIZE[1]} for i in images
        ]
        for image in found:
            write_image(root / split / image["file_name"], *SIZE, seed=image["id"])
        annotations = [
            {**described, "id": 1000 * i + k, "image_id": i}
            for i, group in images.items()
            for k, described in enumerate(group)
        ]
        content = {"images": found, "categories": CATEGORIES}
        kind = "image_info"
        if split != "test2014":
            kind, content["annotations"] = "instances", annotations
        (root / "annotations" / f"{kind}_{split}.json").write_text(json.dumps(content))
    return root
