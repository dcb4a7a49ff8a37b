"""Runs with made-up figures, as the stages leave them."""

import io

import pytest
from PIL import Image

from sfc.example_archive import ExampleArchive, ExampleArchiveWriter
from sfc.report.run import Run

TITLES = {"cam": "CAM", "crf": "CRF", "seg": "Segmentation"}
CLASSES = ("ant", "bee")
SPLIT = {"images": 4, "images_without_mask": 0, "classes_absent": 0, "baseline_all_background": 8.0}
FIGURES = {"pixel_accuracy": 80.0, "false_positive_rate": 30.0, "false_negative_rate": 20.0}
NOTHING = {"images": 0, "images_without_mask": 4, "note": "no image of this split has a mask: nothing to measure"}


def cam_metrics(miou):
    sets = {"miou_many": miou, "miou_few": 1.5}
    interval = {"miou_low": miou - 1, "miou_high": miou + 3}
    oracle = {"threshold": 0.3, "miou": 70.0}
    maps = {
        name: {**FIGURES, **sets, **interval, "miou": miou + i, "oracle": oracle}
        for i, name in enumerate(("classifier", "sum"))
    }
    return {split: {**SPLIT, **maps, "stands_for": "sum"} for split in ("train", "val")}


def class_rows(product, maps, miou, split="train"):
    """As evaluate writes them; of the class bee only the over-activation is known, and without masks nothing is."""
    rows = []
    for name in maps:
        main = "yes" if name == maps[-1] else "no"
        about = {"product": product, "split": split, "map": name, "main": main, "shown": main}
        for label in ("background", *CLASSES):
            of_all = {"class": label, "false_positive_rate": "30.0" if miou else "", "images": "3"}
            known = miou is not None and label != "bee"
            figures = {"iou": str(miou) if known else "", "false_negative_rate": "20.0" if known else ""}
            rows.append({**about, **of_all, **figures})
    return rows


def examples(folder, product, iou, ids=("one", "two")):
    def picture(kind, colour):
        file = io.BytesIO()
        Image.new("RGB", (4, 3), colour).save(file, format=kind)
        return file.getvalue()

    path = folder / f"{product}.zip"
    with ExampleArchiveWriter(path) as archive:
        found = []
        for i, id in enumerate(ids):
            archive.write(f"{id}/image.jpg", picture("JPEG", (i, 90, 0)))
            archive.write(f"{id}/truth.png", picture("PNG", "red"))
            archive.write(f"{id}/labels.png", picture("PNG", "blue" if iou else "red"))
            pictures = [
                {"kind": kind, "map": "labels" if kind == "labels" else None, "label": None, "file": f"{id}/{file}"}
                for kind, file in (("image", "image.jpg"), ("truth", "truth.png"), ("labels", "labels.png"))
            ]
            of_class = {"0": 90.0, "1": iou} if iou is not None else {}
            figures = {"iou": iou, "rank": i + 1 if iou is not None else None, "of_class": of_class}
            found.append({"id": id, "fixed": i == 0, "shows": [1], "extra": [2], "pictures": pictures, **figures})
        labels = [{"name": n, "colour": "#000000"} for n in ("background", *CLASSES, "not measured")]
        index = {"product": product, "meaning": f"what {product} is", "split": "train", "images": 9, "main": "labels"}
        ious = [iou] * 3 if iou is not None else []
        archive.finish({**index, "labels": labels, "scale": ["#000000"], "ious": ious, "examples": found})
    return ExampleArchive(path.read_bytes(), source=str(path))


def metrics_of(miou):
    split = {"images": 4, "images_with_mask": 4, "classes_per_image": 1.5, "label_source": "table"}
    labels = {**SPLIT, **FIGURES, "miou": miou, "stands_for": "labels"}
    return {
        "prepare": {"classes": 2, "train": split},
        "evaluate_cam": cam_metrics(miou) if miou else {"train": NOTHING},
        "evaluate_crf": {"train": labels if miou else NOTHING},
    }


@pytest.fixture
def run(tmp_path):
    """Makes a run; without masks where `miou` is None."""

    def make(name="this run", miou=50.0, **changes):
        folder = tmp_path / name.replace("/", "_")
        folder.mkdir()
        maps = {"cam": ("classifier", "sum"), "crf": ("labels",)}
        values = {
            "name": name,
            "params": {"dataset.root": "data", "dataset.kind": "voc", "train_cam.method": "sfc", "seg.steps": 300},
            "metrics": metrics_of(miou),
            "classes": [{"class": "ant", "n": "3", "dc": "1.5"}, {"class": "bee", "n": "7", "dc": "0.5"}],
            "per_class": {product: class_rows(product, names, miou) for product, names in maps.items()},
            "examples": {"crf": examples(folder, "crf", miou)},
        }
        return Run(**{**values, **changes})

    return make
