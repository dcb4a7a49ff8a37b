"""Raw CAMs of whole images at several scales: batches of equal sizes, nothing fused yet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from sfc.backbone import Trunk, fold_batch_norm
from sfc.data.images import equal_sizes, normalise
from sfc.data.manifest import Record, label_keys, label_matrix
from sfc.data.read_ahead import Broken, read_ahead
from sfc.errors import UserError
from sfc.memory import memory_line


class CamInference(Protocol):
    """What a CAM network offers; see `sfc.calibration.network.CamNetwork`."""

    kinds: tuple[str, ...]
    fused: tuple[str, ...]
    backbone: Trunk
    pcm_iters: int
    seed_pcm_iters: int | None

    def to(self, *, dtype: torch.dtype, memory_format: torch.memory_format) -> CamInference: ...

    def infer(self, images: Tensor, labels: Tensor, *, flip: bool, mask_absent: bool) -> Tensor: ...


def ready(network: CamInference, *, pcm_iters: int | None, seed_pcm_iters: int | None, precision: str) -> CamInference:
    """The network as `infer_cams` runs it fastest; it must not be trained or saved any more.

    Args:
        pcm_iters: products with the pixel correlation; None: as trained.
        seed_pcm_iters: of the map that prototypes take their seeds from; None: as trained.
        precision: see `infer_cams`.
    """
    if pcm_iters is not None:
        network.pcm_iters = pcm_iters
    if seed_pcm_iters is not None:
        network.seed_pcm_iters = seed_pcm_iters
    fold_batch_norm(network.backbone)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    return network.to(dtype=dtype, memory_format=torch.channels_last)


def infer_cams(
    network: CamInference,
    shards: Sequence[Sequence[Record]],
    *,
    num_classes: int,
    scales: Sequence[float],
    flip: bool,
    mask_absent: bool,
    batch_size: int,
    precision: str,
    device: torch.device,
    workers: int,
    broken: Broken | None = None,
) -> Iterator[tuple[str, list[np.ndarray]]]:
    """The raw CAMs of all images, shard after shard, by size within a shard.

    Batches never cross shards, so what an image gives does not depend on which other shards this process makes.

    Args:
        network: on `device`, in evaluation mode, see `ready`.
        shards: images of each shard.
        precision: "bf16" runs the network under autocast.
        workers: see `read_ahead`.
        broken: called for each image that cannot be read or does not fit in memory, and is left out.

    Yields:
        image id and one (kinds, 1 + present classes, h, w) float32 array a scale: background first, then the
        present classes in index order.

    Raises:
        UserError: an image does not decode or has not the size the manifest says, or a batch does not fit in memory;
            without `broken`.
    """
    batches = [batch for shard in shards for batch in equal_sizes(shard, batch_size)]
    bf16, trunk = precision == "bf16", network.backbone
    for records, images in read_ahead(batches, scales, device=device, workers=workers, broken=broken):
        labels = torch.from_numpy(label_matrix(records, num_classes)).to(device)
        try:
            with (
                memory_line(_too_large(records)),
                torch.inference_mode(),
                torch.autocast(device.type, torch.bfloat16, enabled=bf16),
            ):
                on_device = (scaled.to(device, non_blocking=True) for scaled in images)
                normalised = (normalise(scaled, None, mean=trunk.mean, std=trunk.std) for scaled in on_device)
                cams = [network.infer(scaled, labels, flip=flip, mask_absent=mask_absent) for scaled in normalised]
        except UserError as error:
            if broken is None:
                raise
            for record in records:
                broken(record, error)
            continue
        cams = [scaled.float().cpu().numpy() for scaled in cams]
        for row, record in enumerate(records):
            yield record.id, [scaled[row][:, label_keys(record.labels)] for scaled in cams]


def _too_large(records: Sequence[Record]) -> str:
    return (
        f"{records[0].image}: a batch of {len(records)} with {records[0].height} x {records[0].width} pixels does "
        "not fit in memory; lower cam.batch_size, leave out the largest of cam.scales, or make the image smaller"
    )
