"""The best of several offsets, and how sure that is: by resampling the images they were tried on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


def halving(counts: np.ndarray) -> np.ndarray:
    """The score (..., O) of the rule that needs no mask; highest, 0, where half of the foreground is left.

    Minus the distance of the share of foreground that is left from one half; 1 is what the lowest offset gives.

    Args:
        counts: (..., O, 2) of `counts.foreground`, summed over images; offsets ascending.
    """
    left = counts[..., 0].astype(np.float64)
    return -np.abs(left / np.maximum(left[..., :1], 1) - 0.5)


@dataclass(frozen=True)
class Choice:
    """Which of O offsets is best.

    Attributes:
        scores: (O,) the higher the better.
        resampled: (R, O) the scores on R resamples of the images, the same draws for every offset.
    """

    scores: np.ndarray
    resampled: np.ndarray

    @property
    def best(self) -> int:
        """The offset with the highest score on all images, the first if several have it."""
        return int(self.scores.argmax())

    @property
    def share(self) -> float:
        """Share of the resamples in which `best` is best; NaN without resamples."""
        return float((self.resampled.argmax(1) == self.best).mean()) if len(self.resampled) else float("nan")

    def range(self, level: float) -> tuple[int, int]:
        """The offsets between which the best one of a resample lies in the middle `level` of the resamples."""
        return self._limits(self.resampled.argmax(1), level, "inverted_cdf")

    def gain(self, other: int, level: float) -> tuple[float, float, float]:
        """By how much the best score is above another offset's, and the limits of that over the resamples.

        Both are scores on the images that `best` was chosen on, which flatters it.
        """
        differences = self.resampled[:, self.best] - self.resampled[:, other]
        return float(self.scores[self.best] - self.scores[other]), *self._limits(differences, level, "linear")

    def surely_above(self, other: int, level: float) -> bool:
        """Whether the limits of `gain` leave out 0; without resamples nothing speaks against it."""
        return not len(self.resampled) or self.gain(other, level)[1] > 0

    def _limits(self, values: np.ndarray, level: float, method: str):
        low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2], method=method)
        return low.item(), high.item()
