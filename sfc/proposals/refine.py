"""The vote of mask proposals over all images of a split."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sfc.data.manifest import Record, label_keys
from sfc.data.pool import ordered_map
from sfc.fusion import fuse, normalise_scales
from sfc.localization.store import CamStore
from sfc.proposals.archive import ProposalArchive
from sfc.proposals.vote import vote


@dataclass(frozen=True)
class _Voter:
    """What a worker process does with one image."""

    store: CamStore
    archive: ProposalArchive
    fusion: Mapping[str, Any]
    rule: Mapping[str, Any]

    def __call__(self, item: tuple[Record, np.ndarray]) -> tuple[str, np.ndarray]:
        record, label = item
        if not record.labels or record.id not in self.archive:
            return record.id, label
        normalised = normalise_scales(self.store.fused_of(record), (record.height, record.width))
        cams = fuse(normalised, self.store.fused, **self.fusion).numpy()
        keys = label_keys(record.labels)
        return record.id, vote(label, cams, keys, self.archive.masks_of(record), **self.rule)


def vote_on_all(
    labels: Iterable[tuple[str, np.ndarray]],
    records: Sequence[Record],
    store: CamStore,
    archive: ProposalArchive,
    *,
    fusion: Mapping[str, Any],
    rule: Mapping[str, Any],
    workers: int,
) -> Iterator[tuple[str, np.ndarray]]:
    """Labels of images, in their order, after the proposals in `archive` have voted.

    Args:
        labels: image id and (H, W) uint8; taken one after another as results are asked for.
        records: of these images, in any order. One without a class or without proposals keeps its label.
        fusion: keyword arguments of `fuse`, which says how the CAMs become the map that votes.
        rule: those of `vote` from `covered` on.
        workers: processes.

    Raises:
        UserError: as `ProposalArchive.masks_of` and `CamStore.maps_of`.
    """
    by_id = {record.id: record for record in records}
    items = ((by_id[id], label) for id, label in labels)
    return ordered_map(_Voter(store, archive, fusion, rule), items, workers=workers)
