"""Counting pixels: the confusion matrix and the threshold sweep."""

from __future__ import annotations

import numpy as np
import torch

from bench.inputs import regions, smooth
from bench.measure import Pair, Row
from sfc.data.images import IGNORE
from sfc.evaluation.confusion import Confusion
from sfc.evaluation.thresholds import ThresholdSweep, sweep_thresholds


def _truth(classes: int, size: tuple[int, int]) -> np.ndarray:
    truth = regions(1, classes, *size)[0].numpy()
    truth[:4] = IGNORE
    return truth


def _confusion_by_masks(truth: np.ndarray, prediction: np.ndarray, classes: int) -> np.ndarray:
    matrix = np.zeros((classes, classes), np.int64)
    for actual in range(classes):
        for predicted in range(classes):
            matrix[actual, predicted] = ((truth == actual) & (prediction == predicted)).sum()
    return matrix


def confusion(device: torch.device, *, classes: int, size: tuple[int, int]) -> Pair:
    """Confusion matrix of one image."""
    truth = _truth(classes, size)
    prediction = np.roll(truth, size[1] // 8, axis=1)
    prediction[prediction == IGNORE] = 0

    def ours() -> tuple:
        counted = Confusion(classes)
        counted.add("image", truth, prediction)
        return (counted.matrix,)

    return Pair(lambda: (_confusion_by_masks(truth, prediction, classes),), ours)


def threshold_sweep(device: torch.device, *, classes: int, size: tuple[int, int], step: float) -> Pair:
    """Confusion matrices of one image at all thresholds; also the plain form counts each by `Confusion`."""
    truth, thresholds = _truth(classes, size), sweep_thresholds(0.0, 0.6, step)
    maps, keys = smooth(1, 2, *size, seed=2)[0], (1, classes - 1)

    def at(threshold: float) -> np.ndarray:
        constant = torch.full((1, *size), threshold)
        labels = torch.cat([constant, maps]).argmax(dim=0).numpy()
        counted = Confusion(classes)
        counted.add("image", truth, np.array((0, *keys), np.uint8)[labels])
        return counted.matrix

    def ours() -> tuple:
        sweep = ThresholdSweep(classes, thresholds)
        sweep.add("image", truth, maps, keys)
        return (sweep.matrices(),)

    return Pair(lambda: (np.stack([at(threshold) for threshold in thresholds]),), ours)


ROWS = (
    Row(
        "confusion",
        "a mask for each pair of classes -> one bincount",
        confusion,
        {
            "tiny": {"classes": 4, "size": (24, 32)},
            "small": {"classes": 21, "size": (240, 320)},
            "full": {"classes": 21, "size": (375, 500)},
        },
        tolerance=0,
        cpu_only=True,
    ),
    Row(
        "threshold-sweep",
        "a confusion matrix a threshold -> one histogram",
        threshold_sweep,
        {
            "tiny": {"classes": 4, "size": (24, 32), "step": 0.1},
            "small": {"classes": 21, "size": (240, 320), "step": 0.01},
            "full": {"classes": 21, "size": (375, 500), "step": 0.01},
        },
        tolerance=0,
        cpu_only=True,
    ),
)
