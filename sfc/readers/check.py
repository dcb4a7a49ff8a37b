"""Decoding every image and mask once, so that no later stage meets a broken one; the first faults are told at once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sfc.data.images import IGNORE, decode_image, has_rotation_tag, read_content, read_mask
from sfc.data.pool import threaded_map
from sfc.errors import UserError, refuse


class Facts(NamedTuple):
    """What an image and its mask show.

    Attributes:
        image_hash: of the image file's bytes.
        rotated: whether its EXIF data ask viewers to rotate or mirror it, see `decode_image`.
        mask_classes: sorted 0-based foreground classes in the mask; None without a mask.
    """

    height: int
    width: int
    image_hash: str
    rotated: bool
    mask_classes: tuple[int, ...] | None


def inspect(image: Path, mask: Path | None, num_classes: int) -> Facts:
    """Decode an image and its mask; UserError if either is broken, or if they do not fit each other."""
    content = read_content(image)
    height, width = decode_image(image, content).shape[:2]
    digest, rotated = hashlib.sha256(content).hexdigest()[:16], has_rotation_tag(image, content)
    if mask is None:
        return Facts(height, width, digest, rotated, None)
    label = read_mask(mask)
    if label.shape != (height, width):
        found = f"{label.shape[1]} x {label.shape[0]}"
        advice = "make them the same size"
        if label.shape == (width, height) and rotated:
            advice = "the image has a rotation tag, which is not applied: rotate the mask back, or the image's pixels"
        raise UserError(f"{mask}: {found} pixels, but its image is {width} x {height}; {advice}")
    values = np.flatnonzero(np.bincount(label.ravel(), minlength=256))
    unknown = values[(values > num_classes) & (values != IGNORE)]
    if len(unknown):
        raise UserError(f"{mask}: value {unknown[0]} is none of the {num_classes} classes, 0 or {IGNORE}")
    return Facts(height, width, digest, rotated, tuple(int(v) - 1 for v in values if 0 < v != IGNORE))


def inspect_all(
    where: str,
    files: Sequence[tuple[Path, Path | None]],
    num_classes: int,
    *,
    workers: int,
    progress: Callable[..., Iterable],
    label: str = "images and masks",
) -> list[Facts]:
    """`inspect` for all (image, mask) pairs in threads; UserError that lists the first several faults.

    `progress` is called as progress(pairs, total=n, label=label).
    """

    def attempt(pair: tuple[Path, Path | None]) -> Facts | str:
        try:
            return inspect(*pair, num_classes)
        except UserError as error:
            return str(error)

    results = list(progress(threaded_map(attempt, files, workers=workers), total=len(files), label=label))
    refuse(where, [result for result in results if isinstance(result, str)])
    return results
