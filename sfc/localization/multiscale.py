"""Raw CAMs of whole images at several scales: decoding in workers, batches of equal sizes, nothing fused yet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from sfc.backbone import Trunk
from sfc.data.images import normalise, resize_image
from sfc.data.manifest import Record
from sfc.data.whole_images import equal_sizes, read_record
from sfc.errors import UserError
from sfc.localization.fusion import label_keys


class CamInference(Protocol):
    """What a CAM network offers; see `sfc.calibration.base.BaseNetwork`."""

    kinds: tuple[str, ...]
    fused: tuple[str, ...]
    backbone: Trunk

    def infer(self, images: Tensor, labels: Tensor, *, flip: bool, mask_absent: bool) -> Tensor: ...


class ScaledBatches(Dataset):
    """Item i is batch i at every scale: a list of (B, 3, round(H * scale), round(W * scale)) uint8."""

    def __init__(self, batches: Sequence[Sequence[Record]], scales: Sequence[float]):
        self.batches = batches
        self.scales = scales

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> list[Tensor] | UserError:
        try:
            images = [read_record(record) for record in self.batches[index]]
        except UserError as error:
            return error  # raised by the receiver: a loader would bury the line in its worker's traceback
        height, width = images[0].shape[:2]
        sizes = [(max(1, round(height * scale)), max(1, round(width * scale))) for scale in self.scales]
        return [_stack([resize_image(image, *size) for image in images]) for size in sizes]


def _stack(images: list[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)  # channels last in memory, as convolutions like it


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
        workers: decoding processes; 0 decodes here.

    Yields:
        image id and one (kinds, 1 + present classes, h, w) float32 array a scale: background first, then the
        present classes in index order.

    Raises:
        UserError: an image does not decode or has not the size the manifest says; a batch does not fit in memory.
    """
    batches = [batch for shard in shards for batch in equal_sizes(shard, batch_size)]
    loader = DataLoader(
        ScaledBatches(batches, scales), batch_size=None, num_workers=workers, pin_memory=device.type == "cuda"
    )
    bf16 = precision == "bf16"
    for records, images in zip(batches, loader, strict=True):
        if isinstance(images, UserError):
            raise images
        labels = _label_rows(records, num_classes).to(device)
        with _memory_line(records), torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            cams = [
                network.infer(_prepare(scaled, network, device), labels, flip=flip, mask_absent=mask_absent)
                for scaled in images
            ]
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


def _prepare(images: Tensor, network: CamInference, device: torch.device) -> Tensor:
    trunk = network.backbone
    return normalise(images.to(device, non_blocking=True), None, mean=trunk.mean, std=trunk.std)


def _label_rows(records: Sequence[Record], num_classes: int) -> Tensor:
    labels = torch.zeros(len(records), num_classes)
    for row, record in enumerate(records):
        labels[row, list(record.labels)] = 1
    return labels
