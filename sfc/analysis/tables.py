"""Plot data of the analysis, classes from head to tail."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from sfc.analysis.shared_features import SharedFeatures
from sfc.evaluation.confusion import Confusion, scores
from sfc.evaluation.tables import BACKGROUND

KINDS = ("classifier weight on pixels", "prototype on pixels", "classifier weight and prototype")


def write_cosines(path: Path, found: SharedFeatures, classes: Sequence[str], order: Sequence[int]) -> None:
    """CSV with the columns kind, of, class, cosine: a row for each cell of the three class-by-class matrices.

    `of` is the class whose pixels (or, in the last matrix, whose prototype) is measured, `class` that of the weight or
    prototype it is measured against. Cells without a pixel or a seed are left out.
    """
    matrices = (found.weight_on_pixels, found.prototype_on_pixels, found.weight_and_prototype)
    rows = []
    for kind, matrix in zip(KINDS, matrices, strict=True):
        first = len(matrix) - len(classes)  # 1 where the background comes first
        for k in (*range(first), *(c + first for c in order)):
            of = BACKGROUND if k < first else classes[k - first]
            cells = ((classes[c], matrix[k, c].item()) for c in order)
            rows += [(kind, of, name, f"{value:.6f}") for name, value in cells if not math.isnan(value)]
    _write(path, ("kind", "of", "class", "cosine"), rows)


def write_rates(
    path: Path, split: str, confusions: Mapping[str, Confusion], classes: Sequence[str], order: Sequence[int]
) -> None:
    """CSV with a row for each CAM and class: over- and under-activated share of the union, in percent."""
    rows = []
    for method, confusion in confusions.items():
        found = scores(confusion.matrix)
        for c in order:
            rates = (found.false_positive_rate[c + 1], found.false_negative_rate[c + 1])
            cells = ("" if math.isnan(rate) else f"{100 * rate:.4f}" for rate in rates)
            rows.append((f"{method} CAM", split, classes[c], *cells))
    _write(path, ("product", "split", "class", "false_positive_rate", "false_negative_rate"), rows)


def _write(path: Path, heading: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(heading)
        table.writerows(rows)
