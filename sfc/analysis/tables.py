"""Plot data of the analysis, classes from head to tail."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from sfc.analysis.shared_features import SharedFeatures
from sfc.data.manifest import BACKGROUND
from sfc.errors import UserError

RATES = ("false_positive_rate", "false_negative_rate")
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


def read_rates(path: Path | str, split: str, classes: Sequence[str]) -> dict[str, dict[str, np.ndarray]]:
    """Over- and under-activation as evaluate has measured them, of the first map and the one that stands for the CAMs.

    Returns:
        Map -> rate -> (C,) percent of the union, NaN where unknown. No map where the split was not measured.

    Raises:
        UserError: no such table, or one of other classes.
    """
    try:
        # a class may be called 7 or null
        table = pd.read_csv(path, dtype={"class": str}, keep_default_na=False, na_values={rate: [""] for rate in RATES})
        table = table[table["split"] == split]
        names = list(dict.fromkeys([*table["map"][:1], *table["map"][table["main"] == "yes"]]))
        found = {}
        for name in names:
            rows = table[table["map"] == name].set_index("class").loc[list(classes)]
            found[name] = {rate: rows[rate].to_numpy(np.float64) for rate in RATES}
        return found
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run the stage evaluate@cam first") from None
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{path}: not what evaluate@cam writes of these classes; run it again") from None


def read_gradients(path: Path | str, classes: Sequence[str]) -> dict[str, np.ndarray]:
    """Mean gradient on the logit of each class over the training, as train_cam has written it in intervals.

    Returns:
        "positive" and "negative" -> (C,) in -1..1, NaN where unknown.

    Raises:
        UserError: no such table, or one of other classes.
    """
    sides = ("positive", "negative")
    try:
        forms, unknown = {"class": str, **dict.fromkeys(sides, np.float64)}, {side: [""] for side in sides}
        # a class may be called 7 or null
        table = pd.read_csv(path, dtype=forms, keep_default_na=False, na_values=unknown)
        means = table.groupby("class")[list(sides)].mean().loc[list(classes)]
        return {side: means[side].to_numpy() for side in sides}
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run the stage train_cam first") from None
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{path}: not what train_cam writes of these classes; run it again") from None


def write_rates(
    path: Path,
    split: str,
    rates: Mapping[str, Mapping[str, np.ndarray]],
    classes: Sequence[str],
    order: Sequence[int],
) -> None:
    """CSV with a row for each map of `read_rates` and class: over- and under-activated share of the union, percent."""
    rows = []
    for name, of_classes in rates.items():
        for c in order:
            cells = ("" if math.isnan(of_classes[rate][c]) else f"{of_classes[rate][c]:.4f}" for rate in RATES)
            rows.append((f"{name} CAM", split, classes[c], *cells))
    _write(path, ("product", "split", "class", *RATES), rows)


def _write(path: Path, heading: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(heading)
        table.writerows(rows)
