"""Whole images for inference: read against the manifest, batched by size."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from sfc.data.images import read_image
from sfc.data.manifest import Record
from sfc.errors import UserError

_PIXELS = 640 * 640  # an image that counts as one: none of VOC or COCO is larger


def equal_sizes(records: Iterable[Record], batch_size: int) -> list[list[Record]]:
    """Batches of at most `batch_size` images of one size, sizes in the order of their first image.

    Images of one size also have one size at every scale, so each is decoded once. Of images above 640 x 640 pixels a
    batch holds fewer, down to one: as many pixels as `batch_size` images of that size.
    """
    groups: dict[tuple[int, int], list[Record]] = {}
    for record in records:
        groups.setdefault((record.height, record.width), []).append(record)
    batches = []
    for (height, width), group in groups.items():
        most = max(1, min(batch_size, batch_size * _PIXELS // (height * width)))
        batches += [group[i : i + most] for i in range(0, len(group), most)]
    return batches


def read_record(record: Record) -> np.ndarray:
    """The image of a record, (H, W, 3) uint8; raises UserError if it has changed its size or does not decode."""
    image = read_image(record.image)
    if image.shape[:2] != (record.height, record.width):
        raise UserError(
            f"{record.image}: {image.shape[0]} x {image.shape[1]} pixels, but the manifest says "
            f"{record.height} x {record.width}; run the stage prepare again"
        )
    return image
