"""How far an mIoU may be off by chance: a percentile bootstrap over images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from sfc.evaluation.confusion import mean_iou
from sfc.randomness import generator

_AT_ONCE = 1_000_000  # weights: 8 MB, 100 resamples of 10,000 images


@dataclass(frozen=True)
class Bootstrap:
    """Resamples of the measured images, with replacement and as many as there are (Efron & Tibshirani 1993, ch. 13).

    The same images, in whatever order they were counted, are resampled in the same way whatever was predicted for
    them, so that intervals of several maps and of several runs rest on the same draws.

    Attributes:
        resamples: how many; 0 for no intervals.
        level: share of the resamples' mIoUs that is inside the interval, in (0, 1).
        random_seed: seed of the draws.
    """

    resamples: int
    level: float
    random_seed: int

    def interval(self, counts: Mapping[str, np.ndarray]) -> tuple[float, float] | None:
        """(lowest, highest) mIoU in 0..1 between the percentiles (1 - level) / 2 and (1 + level) / 2.

        The mIoU of a resample is the mean IoU of the classes that occur in its ground truth, as in `scores`. None
        without resamples; NaN if nothing is measured.

        Args:
            counts: `Confusion.per_image`: of each image id (3, K) pixels that are right, true and predicted.
        """
        if not self.resamples:
            return None
        mious = mean_iou(self.resampled(counts)) if counts else np.empty(0)
        known = mious[~np.isnan(mious)]
        if not known.size:
            return float("nan"), float("nan")
        low, high = np.quantile(known, [(1 - self.level) / 2, (1 + self.level) / 2])
        return float(low), float(high)

    def resampled(self, counts: Mapping[str, np.ndarray]) -> np.ndarray:
        """(R, ...) float64, the sum of `counts` over the images of each resample.

        Args:
            counts: of each image id an array (...) of whole numbers, all of one shape; at least one image.
        """
        stacked = np.array([counts[id] for id in sorted(counts)], np.float64)
        rng, n = generator(self.random_seed, "bootstrap"), len(stacked)
        sums, step = [], max(1, _AT_ONCE // n)
        for start in range(0, self.resamples, step):
            rows = range(start, min(start + step, self.resamples))
            weights = np.stack([np.bincount(rng.integers(n, size=n), minlength=n) for _ in rows])
            # whole numbers far below 2^53: float64, which BLAS multiplies, sums them exactly in any order
            sums.append((weights.astype(np.float64) @ stacked.reshape(n, -1)).reshape(-1, *stacked.shape[1:]))
        return np.concatenate(sums) if sums else np.empty((0, *stacked.shape[1:]))
