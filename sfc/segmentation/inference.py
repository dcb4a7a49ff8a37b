"""Segmentation of whole images: batches of equal size, several scales as one, an optional dense CRF."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from sfc.data.images import normalise, read_record
from sfc.data.manifest import Record
from sfc.data.pool import ordered_map
from sfc.data.read_ahead import read_ahead
from sfc.dense_crf import crf_probabilities
from sfc.segmentation.pyramid import merged, pyramid_logits, resized
from sfc.segmentation.segmenter import Segmenter


def predict_labels(
    network: Segmenter,
    batches: Sequence[list[Record]],
    *,
    scales: Sequence[float],
    merge: str,
    flip: bool,
    precision: str,
    device: torch.device,
    crf: dict[str, float] | None,
    workers: int,
) -> Iterator[tuple[str, np.ndarray]]:
    """Label maps of all images, in the order of `batches`; memory does not grow with their number.

    Args:
        network: in evaluation mode on `device`.
        batches: of images of equal size, see `sfc.data.images.equal_sizes`.
        scales, merge, flip: see `image_logits`.
        precision: "bf16" runs the network under bfloat16 autocast, "fp32" does not.
        crf: keyword arguments of `crf_probabilities`, run in worker processes; None for the plain argmax.
        workers: threads that read images, see `read_ahead`, and processes that run CRFs.

    Yields:
        Image id and label map (H, W) uint8 at the size of the image file.

    Raises:
        UserError: an image is missing, broken, or not of its record's size.
    """
    test = {"scales": scales, "merge": merge, "flip": flip}
    rows = _logit_rows(network, batches, test, precision=precision, device=device, workers=workers)
    corners = network.align_corners
    if crf is None:
        for record, logits in rows:
            yield record.id, _full_size(logits, record, corners).argmax(0).to(torch.uint8).cpu().numpy()
    else:
        small = ((record, logits.cpu().numpy()) for record, logits in rows)
        yield from ordered_map(partial(_crf_labels, align_corners=corners, **crf), small, workers=workers)


def _logit_rows(
    network: Segmenter,
    batches: Sequence[list[Record]],
    test: dict,
    *,
    precision: str,
    device: torch.device,
    workers: int,
) -> Iterator[tuple[Record, Tensor]]:
    """Each image with its (K, h, w) logits on the device."""
    read = read_ahead(batches, [network.image_scale], device=device, workers=workers)
    for records, (images,) in zip(batches, read, strict=True):
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16"):
            logits = image_logits(network, images.to(device, non_blocking=True), **test)
        yield from zip(records, logits, strict=True)


@torch.no_grad()
def image_logits(network: Segmenter, images: Tensor, *, scales: Sequence[float], merge: str, flip: bool) -> Tensor:
    """Logits of all scales as one map; with `flip` averaged with the mirrored images'.

    Args:
        images: (B, 3, H, W) uint8 RGB; resized by each of `scales` for the network.
        merge: see `sfc.segmentation.pyramid.merged`. The scales meet at the size of the largest one's logits, where
            the public LargeFOV code lets them meet at the image's, 64 times the numbers.

    Returns:
        (B, K, h, w) float32 at 1/8 of the largest scale.
    """
    trunk = network.backbone
    images = normalise(images, None, mean=trunk.mean, std=trunk.std).contiguous(memory_format=torch.channels_last)
    both = torch.cat([images, images.flip(3)]) if flip else images
    logits = merged(pyramid_logits(network, both, scales), merge=merge, align_corners=network.align_corners)
    if not flip:
        return logits
    plain, mirrored = logits.chunk(2)
    return (plain + mirrored.flip(3)) / 2


def _crf_labels(item: tuple[Record, np.ndarray], *, align_corners: bool, **crf: float) -> tuple[str, np.ndarray]:
    # The small logits travel to the worker process; only there do they grow to the image's size.
    record, logits = item
    probabilities = _full_size(torch.from_numpy(logits), record, align_corners).softmax(0).numpy()
    return record.id, crf_probabilities(read_record(record), probabilities, **crf).argmax(0).astype(np.uint8)


def _full_size(logits: Tensor, record: Record, align_corners: bool) -> Tensor:
    return resized(logits[None], (record.height, record.width), align_corners=align_corners)[0]
