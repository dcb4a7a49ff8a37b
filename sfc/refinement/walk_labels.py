"""From CAMs and images to pseudo-labels: SFC's rule of two random walks, over whole images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from sfc.backbone import fold_batch_norm
from sfc.data.crops import scaled_size
from sfc.data.images import normalise, resize_image
from sfc.data.manifest import Record
from sfc.data.pool import ordered_map
from sfc.data.whole_images import read_record
from sfc.localization.fusion import fuse, label_keys, normalise_scales, to_labels
from sfc.localization.store import CamStore
from sfc.refinement.affinity import EdgeNetwork, load_edge_network
from sfc.refinement.random_walk import random_walk

_STRIDE = 4  # of the edge map


class EdgeReader:
    """Edge maps of images on file, for any number of processes: each reads the network when it needs it.

    Args:
        path: of the network, see `load_edge_network`.
        scale: images are resized by this first.
        flip: see `EdgeNetwork.edges`.
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
        seen = scaled_size((records[0].height, records[0].width), self.scale)
        images = np.stack([resize_image(read_record(record), *seen) for record in records])
        trunk = self._network.backbone
        images = torch.from_numpy(images).to(self.device).permute(0, 3, 1, 2)
        images = normalise(images, None, mean=trunk.mean, std=trunk.std)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            return self._network.edges(images, flip=self.flip), seen

    @cached_property
    def _network(self) -> EdgeNetwork:
        network = load_edge_network(self.path, self.device)
        fold_batch_norm(network.backbone)
        if self.precision == "bf16":
            network.backbone.to(torch.bfloat16)  # once, not in every batch
        return network


def refine_images(
    batches: Sequence[Sequence[Record]],
    store: CamStore,
    edges: EdgeReader,
    *,
    fusion: dict[str, float],
    rule: dict[str, float],
    workers: int,
) -> Iterator[tuple[str, np.ndarray]]:
    """Pseudo-labels of all images, in the order of `batches`; memory does not grow with their number.

    Args:
        batches: of images of one size. An image without a class is all background.
        fusion: keyword arguments of `fuse`.
        rule: those of `walk_labels` from `radius` on.
        workers: processes, each of which sees a batch through on one core; on a GPU this process does it all.

    Yields:
        Image id and label map (H, W) uint8 at the size of the image file.

    Raises:
        UserError: as `EdgeReader` and `CamStore.read`.
    """
    work = partial(_refine_batch, store=store, edges=edges, fusion=fusion, rule=rule)
    results = ordered_map(work, batches, workers=workers if edges.device.type == "cpu" else 1)
    return (item for labels in results for item in labels)


@torch.inference_mode()
def _refine_batch(
    records: Sequence[Record], *, store: CamStore, edges: EdgeReader, fusion: dict, rule: dict
) -> list[tuple[str, np.ndarray]]:
    labels = {record.id: np.zeros((record.height, record.width), np.uint8) for record in records}
    classified = [record for record in records if record.labels]
    if classified:
        cams = []
        for record in classified:
            maps = [torch.from_numpy(m).to(edges.device) for m in store.read_fused(record.id)]
            cams.append(fuse(normalise_scales(maps, (record.height, record.width)), **fusion))
        edge, seen = edges(classified)
        for record, channels in zip(classified, walk_labels(cams, edge, seen=seen, **rule), strict=True):
            labels[record.id] = to_labels(channels.cpu(), label_keys(record.labels))
    return list(labels.items())


def walk_labels(
    cams: Sequence[Tensor],
    edge: Tensor,
    *,
    seen: tuple[int, int],
    radius: int,
    beta: float,
    steps: int,
    power: float,
    second_power: float,
    background: float,
) -> list[Tensor]:
    """The public SFC rule, for images of one size.

    The first walk spreads the foreground of cam^power, and a constant stands for the background; the second spreads
    all of cam^second_power, background channel included. Each result is divided by its maximum; their sum decides.

    Args:
        cams: one (K', H, W) float32 >= 0 an image, background first; K' > 1 may differ.
        edge: (B, h, w) float32 in 0..1, their edge maps at stride 4.
        seen: (height, width) of the images the edge network saw, (H, W) unless they were resized for it.
        radius, beta, steps: see `random_walk`.
        background: the constant, beside a foreground whose maximum is 1.

    Returns:
        One (H, W) int64 an image: the number of the winning channel.
    """
    started = []
    for cam in cams:
        small = F.interpolate(cam[None], size=edge.shape[1:], mode="bilinear", align_corners=False)[0]
        started.append(torch.cat([small[1:] ** power, small**second_power]))
    walked = random_walk(pad_sequence(started, batch_first=True), edge, radius=radius, beta=beta, steps=steps)
    labels = []
    for cam, maps in zip(cams, walked, strict=True):
        maps = _upsample(maps[: 2 * len(cam) - 1], seen, cam.shape[1:])
        foreground, total = _scaled(maps[: len(cam) - 1]), _scaled(maps[len(cam) - 1 :])
        total[0] += background
        total[1:] += foreground
        labels.append(total.argmax(dim=0))
    return labels


def _upsample(maps: Tensor, seen: tuple[int, int], size: Sequence[int]) -> Tensor:
    """Maps at stride 4 to the image the network saw, and on to the image itself where that was resized."""
    full = F.interpolate(maps[None], scale_factor=_STRIDE, mode="bilinear", align_corners=False)
    full = full[..., : seen[0], : seen[1]]
    if tuple(seen) != tuple(size):
        full = F.interpolate(full, size=tuple(size), mode="bilinear", align_corners=False)
    return full[0]


def _scaled(maps: Tensor) -> Tensor:
    """Divided by the maximum over all channels; zero maps stay zero."""
    return maps / maps.max().clamp_min(torch.finfo(maps.dtype).tiny)
