"""What is counted of the labels at every offset: foreground, and what is right where there is a mask."""

from __future__ import annotations

import numpy as np

from sfc.evaluation.confusion import Confusion


def foreground(labels: np.ndarray) -> np.ndarray:
    """(O, 2) int64 pixels that have a class, and all pixels, of (O, H, W) label maps."""
    classes = (labels > 0).sum(axis=(1, 2))
    return np.stack([classes, np.full_like(classes, labels[0].size)], axis=1)


def rights(id: str, labels: np.ndarray, truth: np.ndarray, num_classes: int) -> np.ndarray:
    """(O, 3, K) int32 pixels of each class that are right, true and predicted, as `Confusion.per_image` has them.

    Args:
        id: named in errors.
        labels: (O, H, W) uint8.
        truth: (H, W) uint8 mask.

    Raises:
        UserError: the mask has another size than the labels, or holds a value outside the label set.
    """
    found = []
    for offset in labels:
        confusion = Confusion(num_classes)
        confusion.add(id, truth, offset)
        found.append(confusion.per_image[id])
    return np.stack(found)
