"""Class-agnostic masks vote on labels: after SAM-enhanced pseudo-labels (Chen et al. 2023, arXiv 2305.05803).

Labels know classes and blur outlines; proposals know outlines and no classes. There each class takes the masks that
its label covers; here the CAMs say first which class a mask could be of.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np


class _Won(NamedTuple):
    area: int
    value: int
    mask: np.ndarray


def vote(
    label: np.ndarray,
    cams: np.ndarray,
    keys: Sequence[int],
    proposals: Iterable[np.ndarray],
    *,
    covered: float,
    held: float | None,
    unclaimed: str,
) -> np.ndarray:
    """The label map after the vote.

    A proposal's class is the one with the largest share of the CAM mass in it. The class wins the proposal if its label
    covers more than `covered` of it, or if at least `held` of its label in the image lies in it (so a whole
    object is won by a label of its head). A pixel takes the class of the smallest proposal around it that was won;
    in proposals that nobody won, see `unclaimed`; outside all proposals the label stays.

    Args:
        label: (H, W) uint8 of values in `keys`.
        cams: (K', H, W) float >= 0, background first, which has no vote.
        keys: label-map value of each channel.
        proposals: masks (H, W) bool, which may lie over one another; empty ones are passed over.
        covered, held: in 0..1; `held` None for no second way to win.
        unclaimed: "background", what the released code does, or "keep", the label stays.

    Returns:
        (H, W) uint8.
    """
    if len(cams) == 1:
        return label.copy()
    flat = cams[1:].reshape(len(cams) - 1, -1)
    totals = {value: np.count_nonzero(label == value) for value in keys[1:]}
    proposed = np.zeros(label.shape, bool)
    won = []
    for mask in proposals:
        area = int(np.count_nonzero(mask))
        proposed |= mask
        mass = flat @ mask.ravel().astype(flat.dtype)
        value = keys[1 + int(mass.argmax())]
        inside = np.count_nonzero(label[mask] == value) if mass.any() else 0
        if inside and (inside > covered * area or (held is not None and inside >= held * totals[value])):
            won.append(_Won(area, value, mask))
    voted = np.where(proposed, label.dtype.type(keys[0]), label) if unclaimed == "background" else label.copy()
    for proposal in sorted(won, key=lambda proposal: -proposal.area):
        voted[proposal.mask] = proposal.value
    return voted
