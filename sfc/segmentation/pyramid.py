"""One network at several scales of its images, and the logits of all scales as one map."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def pyramid_logits(network: nn.Module, images: Tensor, scales: Sequence[float]) -> list[Tensor]:
    """Logits of `images` (B, 3, H, W) resized by each scale (bilinear, rounded down, at least one pixel)."""
    return [network(_scaled(images, scale)) for scale in scales]


def _scaled(images: Tensor, scale: float) -> Tensor:
    if scale == 1:
        return images
    if torch.compiler.is_exporting():  # sides are symbols then, of which int() and max() would make numbers
        ratio = ratio_of(scale)
        size = [torch.sym_max(1, side * ratio.numerator // ratio.denominator) for side in images.shape[2:]]
    else:
        size = [max(1, int(side * scale)) for side in images.shape[2:]]
    return resized(images, size, align_corners=False)


def ratio_of(scale: float) -> Fraction:
    """A scale as it was written, in whole numbers, which a graph multiplies its sides with exactly."""
    return Fraction(scale).limit_denominator(1000)


def merged(pyramid: Sequence[Tensor], *, merge: str, align_corners: bool) -> Tensor:
    """The scales as one map (B, K, h, w), at the size of the largest.

    Args:
        merge: for each class and pixel, "max" takes the largest logit over the scales (DeepLabV2), "mean" their mean.
    """
    size = [reduce(torch.sym_max, sides) for sides in zip(*(logits.shape[2:] for logits in pyramid), strict=True)]
    stacked = torch.stack([resized(logits, size, align_corners=align_corners) for logits in pyramid])
    return stacked.amax(0) if merge == "max" else stacked.mean(0)


def resized(maps: Tensor, size: Sequence[int], *, align_corners: bool) -> Tensor:
    """(B, K, h, w) resized bilinearly to (B, K, *size)."""
    if not torch.compiler.is_exporting() and list(maps.shape[2:]) == list(size):  # symbols cannot be compared
        return maps
    return F.interpolate(maps, size=tuple(size), mode="bilinear", align_corners=align_corners)
