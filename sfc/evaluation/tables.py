"""Plot data: per-class figures and the confusion matrix."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from sfc.data.manifest import BACKGROUND
from sfc.evaluation.confusion import Confusion, scores


class Measured(NamedTuple):
    """What was counted of a product on a split: the confusion matrix of each map, and which map is the product's."""

    split: str
    main: str
    confusions: Mapping[str, Confusion]


def write_per_class(path: Path, product: str, measured: Sequence[Measured], classes: Sequence[str]) -> None:
    """CSV with a row for background and each class, of every map of every split.

    Rates in percent, empty where undefined; `images` that show the class. `main` is "yes" for the map that stands for
    the product, and `shown` for the rows that charts draw: of the main map, on the first of `measured`.
    """
    rates = ("iou", "false_positive_rate", "false_negative_rate")
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("product", "split", "map", "main", "shown", "class", *rates, "images"))
        for place, (split, main, confusions) in enumerate(measured):
            for name, confusion in confusions.items():
                flags = ("yes" if name == main else "no", "yes" if name == main and place == 0 else "no")
                found = scores(confusion.matrix)
                for k, label in enumerate((BACKGROUND, *classes)):
                    values = (_percent(getattr(found, rate)[k]) for rate in rates)
                    table.writerow((product, split, name, *flags, label, *values, confusion.images[k]))


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
