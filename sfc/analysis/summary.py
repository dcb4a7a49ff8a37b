"""From class-by-class cosines to the few figures that say whether common classes cover rare ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd


def head_to_tail(counts: Sequence[int]) -> list[int]:
    """Class indices from the most frequent class to the rarest; equal counts in index order."""
    return sorted(range(len(counts)), key=lambda c: (-counts[c], c))


def ends(order: Sequence[int], share: float) -> tuple[list[int], list[int]]:
    """Head and tail: the first and the last `share` of the classes in `order`, at least one each.

    With a single class both are that class.
    """
    size = max(1, int(len(order) * share))
    return list(order[:size]), list(order[-size:])


def activations(matrix: np.ndarray, head: Sequence[int], tail: Sequence[int]) -> dict[str, float]:
    """The four cases of Eq. 13 to 16 as means over classes.

    Args:
        matrix: (1 + C, C) of `SharedFeatures`, rows the pixels' class with background first.

    Returns:
        "head_on_tail" is A_T W_H, the mean over all head classes c and tail classes t of c's activation on t's
        pixels, and "tail_on_head" A_H W_T; "head_on_head" and "tail_on_tail" are of each class on its own pixels.
    """
    pixels = matrix[1:]
    own = np.diag(pixels)
    return {
        "head_on_head": mean_known(own[list(head)]),
        "tail_on_tail": mean_known(own[list(tail)]),
        "head_on_tail": mean_known(pixels[np.ix_(tail, head)].ravel()),
        "tail_on_head": mean_known(pixels[np.ix_(head, tail)].ravel()),
    }


def end_means(values: np.ndarray, head: Sequence[int], tail: Sequence[int]) -> dict[str, float]:
    """Means of one value a class over the head and over the tail; NaN values are left out."""
    return {"head": mean_known(values[list(head)]), "tail": mean_known(values[list(tail)])}


def mean_known(values: np.ndarray) -> float:
    """Mean of what is not NaN; NaN if nothing is."""
    return float(pd.Series(values).mean())
