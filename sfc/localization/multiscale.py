"""Raw CAMs of whole images at several scales: batches of equal sizes, nothing fused yet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from sfc.backbone import Trunk
from sfc.data.images import equal_sizes, normalise
from sfc.data.manifest import Record, label_keys, label_matrix
from sfc.data.read_ahead import read_ahead
from sfc.errors import UserError


class CamInference(Protocol):
    """What a CAM network offers; see `sfc.calibration.network.CamNetwork`."""

    kinds: tuple[str, ...]
    fused: tuple[str, ...]
    backbone: Trunk

    def infer(self, images: Tensor, labels: Tensor, *, flip: bool, mask_absent: bool) -> Tensor: ...


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
) -> Iterator[tuple[str, list[np.ndarray]]]:
    """The raw CAMs of all images, shard after shard, by size within a shard.

    Batches never cross shards, so what an image gives does not depend on which other shards this process makes.

    Args:
        network: on `device`, in evaluation mode.
        shards: images of each shard.
        precision: "bf16" runs the network under autocast.
        workers: see `read_ahead`.

    Yields:
        image id and one (kinds, 1 + present classes, h, w) float32 array a scale: background first, then the
        present classes in index order.

    Raises:
        UserError: an image does not decode or has not the size the manifest says; a batch does not fit in memory.
    """
    batches = [batch for shard in shards for batch in equal_sizes(shard, batch_size)]
    read = read_ahead(batches, scales, device=device, workers=workers)
    bf16, trunk = precision == "bf16", network.backbone
    for records, images in zip(batches, read, strict=True):
        labels = torch.from_numpy(label_matrix(records, num_classes)).to(device)
        with _memory_line(records), torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            on_device = (scaled.to(device, non_blocking=True) for scaled in images)
            ready = (normalise(scaled, None, mean=trunk.mean, std=trunk.std) for scaled in on_device)
            cams = [network.infer(scaled, labels, flip=flip, mask_absent=mask_absent) for scaled in ready]
        cams = [scaled.float().cpu().numpy() for scaled in cams]
        for row, record in enumerate(records):
            yield record.id, [scaled[row][:, label_keys(record.labels)] for scaled in cams]


@contextmanager
def _memory_line(records: Sequence[Record]) -> Iterator[None]:
    """Turn what torch raises when memory runs out into a line that names the images."""
    try:
        yield
    except RuntimeError as error:  # torch has a class of its own for GPUs alone
        if not isinstance(error, torch.OutOfMemoryError) and "DefaultCPUAllocator" not in str(error):
            raise
        raise UserError(
            f"{records[0].image}: a batch of {len(records)} with {records[0].height} x {records[0].width} pixels does "
            "not fit in memory; lower cam.batch_size, leave out the largest of cam.scales, or make the image smaller"
        ) from None
