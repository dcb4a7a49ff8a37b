"""How raw CAMs become labels and heat maps when they are measured and shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from torch import Tensor

from sfc.data.manifest import Record
from sfc.errors import UserError
from sfc.fusion import EPS, background_rule, check_weights, fuse, gain_of, normalise_scales, weighted_sum


class Cams(Protocol):
    """What a `sfc.localization.store.CamStore` offers here."""

    kinds: tuple[str, ...]
    fused: tuple[str, ...]

    def maps_of(self, record: Record) -> Sequence[np.ndarray]: ...


class CamRule:
    """One fusion of the CAMs of a store.

    Attributes:
        maps: what can be measured from the store: each kind alone and, where several kinds stand for the store's
            method, their weighted sum (for SFC Eq. 9), "sum".
        main: the one of `maps` that stands for the store's method: "sum", or the only kind in `Cams.fused`.
        gains: of the foreground of each of the store's kinds.

    Raises:
        UserError: the weights are not those of the kinds that stand for the store's method, or the gains are not of
            the store's kinds.
    """

    def __init__(
        self,
        store: Cams,
        *,
        weights: Mapping[str, float],
        fg_gain: float | Mapping[str, float],
        bg_offset: float,
    ):
        check_weights(store.fused, weights)
        if isinstance(fg_gain, Mapping) and set(fg_gain) != set(store.kinds):
            raise UserError(
                f"fusion: fg_gain of {', '.join(fg_gain)}, but the CAMs are {', '.join(store.kinds)}; name these, or "
                "run infer_cam again if the CAMs are of another method"
            )
        self.store = store
        self.main = store.fused[0] if len(store.fused) == 1 else "sum"
        self.maps = (*store.kinds, "sum") if self.main == "sum" else store.kinds
        self.weights = dict(weights)
        self._rows = [store.kinds.index(kind) for kind in store.fused]
        self.gains = {kind: gain_of(kind, fg_gain) for kind in store.kinds}
        self.bg_offset = bg_offset

    def normalised(self, record: Record) -> Tensor:
        """(kinds, 1 + present classes, H, W) float32 in 0..1; UserError if they are not the record's classes."""
        return normalise_scales(self.store.maps_of(record), (record.height, record.width))

    def cams(self, normalised: Tensor, name: str) -> Tensor:
        """(K', H, W) one of `maps` under the background rule, whose argmax is the label."""
        if name == "sum":
            rule = {"weights": self.weights, "fg_gain": self.gains, "bg_offset": self.bg_offset}
            return fuse(normalised[self._rows], self.store.fused, **rule)
        kind = normalised[self.store.kinds.index(name)]
        return background_rule(kind, fg_gain=self.gains[name], bg_offset=self.bg_offset)

    def foreground(self, normalised: Tensor, name: str) -> Tensor:
        """(C', H, W) foreground of one of `maps`, each class with maximum 1 and no background rule."""
        if name != "sum":
            return normalised[self.store.kinds.index(name), 1:]
        shares = [self.weights[kind] * self.gains[kind] for kind in self.store.fused]
        total = weighted_sum(normalised[self._rows, 1:], shares)
        return total / (total.amax(dim=(-2, -1), keepdim=True) + EPS)
