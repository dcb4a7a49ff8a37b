"""Plot data: per-class figures and the confusion matrix."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from pathlib import Path

from sfc.evaluation.confusion import Confusion, scores

BACKGROUND = "background"


def write_per_class(path: Path, product: str, split: str, confusion: Confusion, classes: Sequence[str]) -> None:
    """CSV with a row for background and each class; rates in percent, empty where undefined; `images` that show it."""
    found = scores(confusion.matrix)
    rates = {name: getattr(found, name) for name in ("iou", "false_positive_rate", "false_negative_rate")}
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("product", "split", "class", *rates, "images"))
        for k, name in enumerate((BACKGROUND, *classes)):
            values = (_percent(rate[k]) for rate in rates.values())
            table.writerow((product, split, name, *values, confusion.images[k]))


def write_confusion(path: Path, confusion: Confusion, classes: Sequence[str]) -> None:
    """JSON rows {actual, predicted, fraction}: the share (0..1) of each ground truth class that is predicted as each.

    Classes without ground truth have no row.
    """
    names = (BACKGROUND, *classes)
    rows = [
        {"actual": actual, "predicted": predicted, "fraction": round(float(count / counts.sum()), 6)}
        for actual, counts in zip(names, confusion.matrix, strict=True)
        for predicted, count in zip(names, counts, strict=True)
        if counts.any()
    ]
    path.write_text(json.dumps(rows, indent=0) + "\n", encoding="utf-8")


def _percent(value: float) -> str:
    return "" if math.isnan(value) else f"{100 * value:.4f}"
