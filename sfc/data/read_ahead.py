"""Whole images at one or several scales, read while the network works on those before them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from sfc.data.images import read_record, resize_image, scaled_size
from sfc.data.manifest import Record
from sfc.data.pool import threaded_map


def read_ahead(
    batches: Sequence[Sequence[Record]], scales: Sequence[float], *, device: torch.device, workers: int
) -> Iterator[list[Tensor]]:
    """What `read_scaled` gives of each batch, in order.

    Args:
        device: where the images go next; on the way to a GPU they wait in page-locked memory.
        workers: threads that read; 0 reads in this one. Each has two batches in hand at most.

    Raises:
        UserError: as `read_scaled`.
    """
    read = partial(read_scaled, scales=scales, pin=device.type == "cuda")
    return threaded_map(read, batches, workers=workers)


def read_scaled(records: Sequence[Record], scales: Sequence[float], *, pin: bool = False) -> list[Tensor]:
    """Images of one size, each decoded once and resized by each of `scales`.

    Args:
        pin: into page-locked memory, from which a GPU copies while it computes.

    Returns:
        One (B, 3, round(H * scale), round(W * scale)) uint8 RGB a scale, channels last in memory.

    Raises:
        UserError: an image does not decode or has not the size the manifest says.
    """
    images = [read_record(record) for record in records]
    sizes = [scaled_size(images[0].shape, scale) for scale in scales]
    stacks = (np.stack([resize_image(image, *size) for image in images]) for size in sizes)
    tensors = [torch.from_numpy(stack).permute(0, 3, 1, 2) for stack in stacks]
    return [tensor.pin_memory() for tensor in tensors] if pin else tensors
