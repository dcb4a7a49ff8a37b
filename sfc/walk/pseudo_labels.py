"""From CAMs and images to pseudo-labels: whole images through IRN's network and the random walk."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sfc.backbone import fold_batch_norm
from sfc.data.images import normalise
from sfc.data.manifest import Record, label_keys
from sfc.data.pool import ordered_map
from sfc.data.read_ahead import read_scaled
from sfc.fusion import check_weights, fuse, normalise_scales, to_labels
from sfc.irn.network import IrnNetwork, load_irn
from sfc.localization.store import CamStore
from sfc.walk.walk_labels import walk_labels


class IrnReader:
    """Edge maps of images on file, for any number of processes: each reads the network when it needs it.

    Args:
        path: of the network, see `load_irn`.
        scale: images are resized by this first.
        flip: see `IrnNetwork.edges`.
        precision: "bf16" runs the network under bfloat16 autocast, "fp32" does not.
    """

    def __init__(self, path: Path | str, *, scale: float, flip: bool, precision: str, device: torch.device):
        self.path = path
        self.scale = scale
        self.flip = flip
        self.precision = precision
        self.device = device

    def __call__(self, records: Sequence[Record]) -> tuple[Tensor, tuple[int, int]]:
        """Edges (B, h, w) float32 in 0..1 of images of one size, and the (height, width) the network saw them at.

        Raises:
            UserError: the network's file is missing or another; an image does not decode or has not the size the
                manifest says.
        """
        (images,) = read_scaled(records, [self.scale])
        seen = tuple(images.shape[2:])
        trunk = self._network.backbone
        images = normalise(images.to(self.device), None, mean=trunk.mean, std=trunk.std)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            return self._network.edges(images, flip=self.flip), seen

    @cached_property
    def _network(self) -> IrnNetwork:
        network = load_irn(self.path, self.device)
        fold_batch_norm(network.backbone)
        if self.precision == "bf16":
            network.backbone.to(torch.bfloat16)  # once, not in every batch
        return network


def refine_images(
    batches: Sequence[Sequence[Record]],
    store: CamStore,
    irn: IrnReader,
    *,
    fusion: Mapping[str, Any],
    rule: Mapping[str, Any],
    workers: int,
) -> Iterator[tuple[str, np.ndarray]]:
    """Pseudo-labels of all images, in the order of `batches`; memory does not grow with their number.

    Args:
        batches: of images of one size. An image without a class is all background.
        fusion: keyword arguments of `fuse`; its weights name the kinds in `store.fused`.
        rule: those of `walk_labels` from `radius` on.
        workers: processes, each of which sees a batch through on one core; on a GPU this process does it all.

    Yields:
        Image id and label map (H, W) uint8 at the size of the image file.

    Raises:
        UserError: at once, if the weights name other kinds; later as `IrnReader` and `CamStore.maps_of`.
    """
    check_weights(store.fused, fusion["weights"])
    work = partial(_refine_batch, store=store, irn=irn, fusion=fusion, rule=rule)
    results = ordered_map(work, batches, workers=workers if irn.device.type == "cpu" else 1)
    return (item for labels in results for item in labels)


@torch.inference_mode()
def _refine_batch(
    records: Sequence[Record], *, store: CamStore, irn: IrnReader, fusion: Mapping, rule: Mapping
) -> list[tuple[str, np.ndarray]]:
    labels = {record.id: np.zeros((record.height, record.width), np.uint8) for record in records}
    classified = [record for record in records if record.labels]
    if classified:
        cams = []
        for record in classified:
            maps = [torch.from_numpy(m).to(irn.device) for m in store.fused_of(record)]
            cams.append(fuse(normalise_scales(maps, (record.height, record.width)), store.fused, **fusion))
        edge, seen = irn(classified)
        for record, channels in zip(classified, walk_labels(cams, edge, seen=seen, **rule), strict=True):
            labels[record.id] = to_labels(channels.cpu(), label_keys(record.labels))
    return list(labels.items())
