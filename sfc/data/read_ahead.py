"""Whole images at one or several scales, read while the network works on those before them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from sfc.data.images import read_record, resize_image, scaled_size
from sfc.data.manifest import Record
from sfc.data.pool import threaded_map
from sfc.errors import UserError

Broken = Callable[[Record, UserError], None]  # told of an image that is left out


def read_ahead(
    batches: Sequence[Sequence[Record]],
    scales: Sequence[float],
    *,
    device: torch.device,
    workers: int,
    broken: Broken | None = None,
) -> Iterator[tuple[Sequence[Record], list[Tensor]]]:
    """Each batch, in order, with what `read_scaled` gives of it.

    Args:
        device: where the images go next; on the way to a GPU they wait in page-locked memory.
        workers: threads that read; 0 reads in this one. Each has two batches in hand at most.
        broken: called for each image that cannot be read; its batch comes without it, or not at all.

    Raises:
        UserError: as `read_scaled`, without `broken`.
    """
    read = partial(_read, scales=scales, pin=device.type == "cuda", leave_out=broken is not None)
    for records, faults, tensors in threaded_map(read, batches, workers=workers):
        for record, error in faults:
            broken(record, error)
        if records:
            yield records, tensors


def read_scaled(records: Sequence[Record], scales: Sequence[float], *, pin: bool = False) -> list[Tensor]:
    """Images of one size, each decoded once and resized by each of `scales`.

    Args:
        pin: into page-locked memory, from which a GPU copies while it computes.

    Returns:
        One (B, 3, round(H * scale), round(W * scale)) uint8 RGB a scale, channels last in memory.

    Raises:
        UserError: an image does not decode or has not the size the manifest says.
    """
    return _scaled([read_record(record) for record in records], scales, pin=pin)


def _read(
    records: Sequence[Record], *, scales: Sequence[float], pin: bool, leave_out: bool
) -> tuple[Sequence[Record], list[tuple[Record, UserError]], list[Tensor]]:
    """The records that could be read, those that could not and why, and the former's images."""
    found, faults = {}, []
    for record in records:
        try:
            found[record] = read_record(record)
        except UserError as error:
            if not leave_out:
                raise
            faults.append((record, error))
    return list(found), faults, _scaled(list(found.values()), scales, pin=pin) if found else []


def _scaled(images: Sequence[np.ndarray], scales: Sequence[float], *, pin: bool) -> list[Tensor]:
    sizes = [scaled_size(images[0].shape, scale) for scale in scales]
    stacks = (np.stack([resize_image(image, *size) for image in images]) for size in sizes)
    tensors = [torch.from_numpy(stack).permute(0, 3, 1, 2) for stack in stacks]
    return [tensor.pin_memory() for tensor in tensors] if pin else tensors
