"""From the raw CAMs of an image, as the network gives them, to its labels and heat maps; nothing is stored between."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sfc.data.images import read_record
from sfc.data.manifest import Record, label_keys
from sfc.dense_crf import refine_cams
from sfc.evaluation.cam_rule import CamRule
from sfc.fusion import fuse, normalise_scales, to_labels


@dataclass(frozen=True)
class CamResults:
    """What CAMs of one network come to; may be pickled.

    Attributes:
        kinds, fused: of the network, see `sfc.calibration.network.CamNetwork`.
        fusion: keyword arguments of `CamRule`.
        crf: those of `fuse` and of `refine_cams`, for labels refined by a CRF; else None.
    """

    kinds: tuple[str, ...]
    fused: tuple[str, ...]
    fusion: Mapping[str, Any]
    crf: tuple[Mapping[str, Any], Mapping[str, Any]] | None

    def __call__(self, item: tuple[Record, Sequence[np.ndarray]]) -> tuple[str, np.ndarray, np.ndarray]:
        """Id, labels and heat maps of an image and its maps, as `sfc.localization.multiscale.infer_cams` yields them.

        Labels are those that the stage evaluate measures as the store's method; with `crf` those of the stage crf.
        (H, W) uint8, and (C', H, W) float32 in 0..1, a map for each of the record's classes.
        """
        record, maps = item
        rule = CamRule(_One(self.kinds, self.fused, maps), **self.fusion)
        normalised = rule.normalised(record)
        heat = rule.foreground(normalised, rule.main).numpy()
        if self.crf is None:
            labels = to_labels(rule.cams(normalised, rule.main).max(0).indices, label_keys(record.labels))
        else:
            labels = self._refined(record, maps)
        return record.id, labels, heat

    def _refined(self, record: Record, maps: Sequence[np.ndarray]) -> np.ndarray:
        fusion, crf = self.crf
        rows = [self.kinds.index(kind) for kind in self.fused]
        normalised = normalise_scales([array[rows] for array in maps], (record.height, record.width))
        fused = fuse(normalised, self.fused, **fusion).numpy()
        refined, _ = refine_cams(read_record(record), fused, label_keys(record.labels), **crf)
        return refined


@dataclass(frozen=True)
class _One:
    """The CAMs of one image where `CamRule` takes a store of many."""

    kinds: tuple[str, ...]
    fused: tuple[str, ...]
    maps: Sequence[np.ndarray]

    def maps_of(self, record: Record) -> Sequence[np.ndarray]:
        return self.maps
