import csv
import json

import numpy as np

from sfc.evaluation.confusion import Confusion
from sfc.evaluation.tables import Measured, write_confusion, write_per_class

CLASSES = ("ant", "bee")


def example():
    confusion = Confusion(3)
    confusion.add("a", np.array([[0, 0, 0, 1]], np.uint8), np.array([[0, 0, 1, 1]], np.uint8))
    confusion.add("b", np.array([[0, 255]], np.uint8), np.array([[2, 2]], np.uint8))
    return confusion


def test_per_class_rows(tmp_path):
    measured = [
        Measured("train", "sum", {"classifier": Confusion(3), "sum": example()}),
        Measured("val", "sum", {"sum": example()}),
    ]
    write_per_class(tmp_path / "t.csv", "cam", measured, CLASSES)
    text = (tmp_path / "t.csv").read_text()
    assert (
        text.splitlines()[0] == "product,split,map,main,shown,class,iou,false_positive_rate,false_negative_rate,images"
    )
    rows = list(csv.DictReader(text.splitlines()))
    flags = [(row["split"], row["map"], row["main"], row["shown"]) for row in rows[::3]]
    assert flags == [
        ("train", "classifier", "no", "no"), ("train", "sum", "yes", "yes"), ("val", "sum", "yes", "no")
    ]  # fmt: skip
    assert {row["iou"] for row in rows[:3]} == {""}  # nothing was measured
    background, ant, bee = rows[3:6]
    assert (background["class"], background["iou"], background["images"]) == ("background", "50.0000", "2")
    assert ant == {
        "product": "cam", "split": "train", "map": "sum", "main": "yes", "shown": "yes", "class": "ant",
        "iou": "50.0000",
        "false_positive_rate": "50.0000", "false_negative_rate": "0.0000", "images": "1",
    }  # fmt: skip
    assert (bee["iou"], bee["false_positive_rate"], bee["images"]) == ("", "", "0")


def test_confusion_rows_are_shares_of_the_actual_class(tmp_path):
    write_confusion(tmp_path / "c.json", example(), CLASSES)
    rows = json.loads((tmp_path / "c.json").read_text())
    assert {(row["actual"], row["predicted"]): row["fraction"] for row in rows} == {
        ("background", "background"): 0.5, ("background", "ant"): 0.25, ("background", "bee"): 0.25,
        ("ant", "background"): 0, ("ant", "ant"): 1, ("ant", "bee"): 0,
    }  # fmt: skip
