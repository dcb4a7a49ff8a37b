"""Segmentation of whole images: batches of equal size, several scales as one, an optional dense CRF."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from sfc.backbone import Backbone, fold_batch_norm
from sfc.data.images import normalise, read_record
from sfc.data.manifest import Record, label_keys
from sfc.data.pool import ordered_map
from sfc.data.read_ahead import Broken, read_ahead
from sfc.dense_crf import crf_probabilities
from sfc.errors import UserError
from sfc.memory import memory_line
from sfc.segmentation.pyramid import merged, pyramid_logits, resized
from sfc.segmentation.segmenter import Segmenter


def ready_segmenter(network: Segmenter, *, precision: str) -> Segmenter:
    """The network as `predict_labels` runs it fastest; it must not be trained or saved any more.

    Batch norms go into the trunk's convolutions where they can, see `fold_batch_norm`, and with "bf16" the weights of
    a `Backbone` into bfloat16, as autocast would take them for each batch anew. Other trunks keep their weights:
    autocast itself leaves some of them in float32, such as norms and embeddings.

    Args:
        network: in evaluation mode.
        precision: see `predict_labels`.
    """
    trunk = fold_batch_norm(network.backbone)
    if precision == "bf16" and isinstance(trunk, Backbone):
        trunk.to(torch.bfloat16)
    return network.to(memory_format=torch.channels_last)


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
    known: bool = False,
    broken: Broken | None = None,
) -> Iterator[tuple[str, np.ndarray]]:
    """Label maps of all images, in the order of `batches`; memory does not grow with their number.

    Args:
        network: in evaluation mode on `device`, see `ready_segmenter`.
        batches: of images of equal size, see `sfc.data.images.equal_sizes`.
        scales, merge, flip: see `image_logits`.
        precision: "bf16" runs the network under bfloat16 autocast, "fp32" does not.
        crf, known: see `labels_of`.
        workers: threads that read images, see `read_ahead`, and processes that run CRFs.
        broken: called for each image that cannot be read or does not fit in memory, and is left out.

    Yields:
        Image id and label map (H, W) uint8 at the size of the image file.

    Raises:
        UserError: an image is missing, broken, or not of its record's size, or a batch does not fit in memory; without
            `broken`.
    """
    test = {"scales": scales, "merge": merge, "flip": flip}
    rows = _logit_rows(network, batches, test, precision=precision, device=device, workers=workers, broken=broken)
    return labels_of(rows, align_corners=network.align_corners, crf=crf, known=known, workers=workers)


def labels_of(
    rows: Iterable[tuple[Record, Tensor]],
    *,
    align_corners: bool,
    crf: dict[str, float] | None,
    known: bool,
    workers: int,
) -> Iterator[tuple[str, np.ndarray]]:
    """Each image's id and label map (H, W) uint8 at the size of the image file.

    Args:
        rows: records, and their logits (K, h, w).
        align_corners: how logits are resized to the image.
        crf: keyword arguments of `crf_probabilities`, run in worker processes; None for the plain argmax.
        known: of each image only the background and the classes in its record's `labels` are taken into account.
        workers: processes that run CRFs.
    """
    if known:
        rows = ((record, logits[list(label_keys(record.labels))]) for record, logits in rows)
    if crf is None:
        for record, logits in rows:
            channels = _full_size(logits, record, align_corners).argmax(0).to(torch.uint8).cpu().numpy()
            yield record.id, _values(channels, record, known)
    else:
        small = ((record, logits.cpu().numpy()) for record, logits in rows)
        work = partial(_crf_labels, align_corners=align_corners, known=known, **crf)
        yield from ordered_map(work, small, workers=workers)


def _logit_rows(
    network: Segmenter,
    batches: Sequence[list[Record]],
    test: dict,
    *,
    precision: str,
    device: torch.device,
    workers: int,
    broken: Broken | None,
) -> Iterator[tuple[Record, Tensor]]:
    """Each image with its (K, h, w) logits on the device."""
    for records, (images,) in read_ahead(batches, [network.image_scale], device=device, workers=workers, broken=broken):
        try:
            with (
                memory_line(_too_large(records)),
                torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16"),
            ):
                logits = image_logits(network, images.to(device, non_blocking=True), **test)
        except UserError as error:
            if broken is None:
                raise
            for record in records:
                broken(record, error)
            continue
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
    plain, mirrored = logits.unflatten(0, (2, -1))  # chunk() would leave an exported graph a sequence
    return (plain + mirrored.flip(3)) / 2


def _crf_labels(
    item: tuple[Record, np.ndarray], *, align_corners: bool, known: bool, **crf: float
) -> tuple[str, np.ndarray]:
    # The small logits travel to the worker process; only there do they grow to the image's size.
    record, logits = item
    probabilities = _full_size(torch.from_numpy(logits), record, align_corners).softmax(0).numpy()
    channels = crf_probabilities(read_record(record), probabilities, **crf).argmax(0).astype(np.uint8)
    return record.id, _values(channels, record, known)


def _values(channels: np.ndarray, record: Record, known: bool) -> np.ndarray:
    """Channel numbers (H, W) uint8 as label-map values: they differ where the channels are those of known classes."""
    return np.asarray(label_keys(record.labels), np.uint8)[channels] if known else channels


def _full_size(logits: Tensor, record: Record, align_corners: bool) -> Tensor:
    return resized(logits[None], (record.height, record.width), align_corners=align_corners)[0]


def _too_large(records: Sequence[Record]) -> str:
    return (
        f"{records[0].image}: a batch of {len(records)} with {records[0].height} x {records[0].width} pixels does not "
        "fit in memory; lower predict.batch_size, leave out the largest of predict.scales, or make the image smaller"
    )
