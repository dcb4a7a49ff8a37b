"""The threshold sweep: how good a constant background could make foreground maps, if the truth were known."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from sfc.errors import UserError
from sfc.evaluation.confusion import known_values, same_size, scores


def sweep_thresholds(start: float, stop: float, step: float) -> list[float]:
    """start, start + step, ... below `stop`; raises UserError if there is none."""
    count = math.ceil(round((stop - start) / step, 6))  # 0.6 / 0.01 is 60, not 61
    if count < 1:
        raise UserError(f"evaluate.sweep: no threshold from {start} below {stop}; raise evaluate.sweep.stop")
    return [round(start + i * step, 10) for i in range(count)]


class ThresholdSweep:
    """Confusion matrices at all T thresholds from one histogram; pickles, and `add` may be called from several threads.

    At threshold t a pixel has the class of its strongest map if that is above t, else it is background: the argmax
    over [t, maps]. So it is enough to count pixels by truth, strongest class and number of thresholds passed.
    """

    def __init__(self, num_classes: int, thresholds: Sequence[float]):
        """`thresholds` in ascending order."""
        self.thresholds = list(thresholds)
        self._edges = torch.tensor(self.thresholds, dtype=torch.float32)
        self._counts = np.zeros((num_classes, num_classes, len(self.thresholds) + 1), np.int64)
        self._lock = threading.Lock()

    def add(self, id: str, truth: np.ndarray, maps: Tensor, classes: Sequence[int]) -> None:
        """Count one image.

        Args:
            id: named in errors.
            truth: (H, W) uint8, 0..K-1, or 255 for pixels that are not measured.
            maps: (C, H, W) float32 foreground maps in 0..1; C may be 0.
            classes: label-map value of each map.

        Raises:
            UserError: the sizes differ, or the mask holds a value outside the label set.
        """
        same_size(id, truth, maps.shape[1:])
        if not len(maps):  # every pixel is background at every threshold
            maps, classes = maps.new_zeros(1, *truth.shape) - 1, (0,)
        strongest, channel = maps.max(0)
        passed = torch.bucketize(strongest, self._edges)  # number of thresholds below the value
        shape = (256, len(maps), self._counts.shape[2])
        cells = (torch.from_numpy(truth.astype(np.int64)) * shape[1] + channel) * shape[2] + passed
        counts = np.bincount(cells.numpy().ravel(), minlength=math.prod(shape)).reshape(shape)
        known_values(counts.sum((1, 2)), len(self._counts), f"the mask of {id}")
        with self._lock:
            self._counts[:, list(classes)] += counts[: len(self._counts)]

    def merge(self, other: ThresholdSweep) -> None:
        """Count the images that another process has counted, too, at the same thresholds."""
        self._counts += other._counts

    def __getstate__(self) -> dict:
        return {name: value for name, value in self.__dict__.items() if name != "_lock"}

    def __setstate__(self, state: dict) -> None:
        self.__dict__ |= state | {"_lock": threading.Lock()}

    def matrices(self) -> np.ndarray:
        """(T, K, K) int64 confusion matrices, one a threshold."""
        above = self._counts[:, :, ::-1].cumsum(2)[:, :, ::-1]  # pixels that passed at least so many thresholds
        matrices = np.moveaxis(above[:, :, 1:], 2, 0).copy()
        matrices[:, :, 0] = 0
        matrices[:, :, 0] = self._counts.sum((1, 2)) - matrices.sum(2)
        return matrices

    def best(self) -> tuple[float, float]:
        """(threshold, mIoU in 0..1) of the best threshold, the lowest if several are; an oracle, never a result."""
        mious = [scores(matrix).miou for matrix in self.matrices()]
        best = int(np.argmax(mious))
        return self.thresholds[best], mious[best]
