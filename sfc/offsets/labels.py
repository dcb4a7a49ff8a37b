"""The labels of one image at many background offsets: of the CAMs as they are, and refined by the dense CRF."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sfc.data.images import read_record
from sfc.data.manifest import Record, label_keys
from sfc.dense_crf import MIN_PROBABILITY, DenseCrf, label_energy, probability_energy
from sfc.fusion import fuse, normalise_scales, to_labels
from sfc.localization.store import CamStore


@dataclass(frozen=True)
class OffsetLabels:
    """Makes the label maps of a record at O offsets; may be pickled.

    Attributes:
        store: the CAMs.
        offsets: values of `bg_offset`, ascending.
        measured, refined: the other keyword arguments of `fusion.fuse` for the CAMs as they are measured, and as the
            CRF takes them: `weights` and `fg_gain`.
        crf: keyword arguments of `dense_crf.refine_cams`.
    """

    store: CamStore
    offsets: Sequence[float]
    measured: Mapping[str, Any]
    refined: Mapping[str, Any]
    crf: Mapping[str, Any]

    def of_cams(self, record: Record) -> np.ndarray:
        """(O, H, W) uint8 labels of the CAMs; raises UserError as `CamStore.fused_of`."""
        keys = label_keys(record.labels)
        return np.stack([to_labels(cams.argmax(0), keys) for cams in self._fused(record, self.measured)])

    def of_crf(self, record: Record) -> np.ndarray:
        """(O, H, W) uint8 labels as `refine_cams` gives them; raises UserError as `of_cams` and `read_record`."""
        maps, keys = self._fused(record, self.refined), label_keys(record.labels)
        if not record.labels:
            return np.stack([to_labels(cams.argmax(0), keys) for cams in maps])
        settings = {name: value for name, value in self.crf.items() if name != "confident_bg_scale"}
        mode, iterations, gt_prob = (settings.pop(name) for name in ("mode", "iterations", "gt_prob"))
        crf = DenseCrf(read_record(record), len(keys), **settings)  # its lattice costs as much as several inferences
        done: dict[bytes, np.ndarray] = {}  # neighbouring offsets often give the same labels
        refined = []
        for cams in maps:
            if mode == "prob":
                energy = probability_energy(cams / (cams.sum(axis=0) + MIN_PROBABILITY))
            else:
                energy = label_energy(cams.argmax(axis=0), len(cams), gt_prob)
            key = energy.tobytes()
            if key not in done:
                done[key] = to_labels(crf.infer(energy, iterations).argmax(axis=0), keys)
            refined.append(done[key])
        return np.stack(refined)

    def _fused(self, record: Record, rule: Mapping[str, Any]) -> list[np.ndarray]:
        normalised = normalise_scales(self.store.fused_of(record), (record.height, record.width))
        return [fuse(normalised, self.store.fused, **rule, bg_offset=offset).numpy() for offset in self.offsets]
