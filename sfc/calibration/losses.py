"""The three losses of SFC (Eq. 1, 5, 7) as sums over a batch's rows, and their weighted total (Eq. 8).

Each function returns one value an image, (B,), so that the mean over a batch that several processes share is exact.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from sfc.calibration.cams import with_background


def classification_loss(score: Tensor, labels: Tensor) -> Tensor:
    """Multi-label soft margin loss (Eq. 1, with the minus its print lacks).

    Args:
        score: (B, C) logits, the classifier's map averaged over all pixels.
        labels: (B, C) 0 or 1.

    Returns:
        (B,) float32, mean over classes.
    """
    score = score.float()
    return F.binary_cross_entropy_with_logits(score, labels.float(), reduction="none").mean(dim=1)


def prototype_consistency(
    cam_weight: Tensor, cam_prototype: Tensor, dc: Tensor, *, reduction: str, kept: Tensor | None = None
) -> Tensor:
    """Distance of classifier-weight and prototype CAM, each class weighted by its DC, the background by 1 (Eq. 5).

    Args:
        cam_weight, cam_prototype: (B, 1 + C, H, W).
        dc: (C,) distribution coefficient.
        reduction: "mean" over channels and pixels (released code), or "sum" over channels of pixel means.
        kept: (B, 1 + C), 0 for the channels of an image that take no part: their distance counts as 0, as an absent
            class's does; the mean still divides by all channels. None keeps all.

    Returns:
        (B,) float32.
    """
    weight = with_background(dc[None])[:, :, None, None]
    if kept is not None:
        weight = weight * kept[:, :, None, None]
    return _reduce((cam_weight - cam_prototype).abs() * weight, reduction)


def scale_consistency(
    cam_weight: Tensor, cam_weight_half: Tensor, labels: Tensor, dc: Tensor, *, reduction: str, detach_large: bool
) -> Tensor:
    """Distance of the present classes' CAMs of the image and of its half-size copy, weighted by DC (Eq. 7).

    Args:
        cam_weight: (B, 1 + C, H, W) of the image; resized bilinearly, corners aligned, to the half-size map.
        cam_weight_half: (B, 1 + C, H', W') of the half-size image.
        labels: (B, C) 0 or 1.
        dc: (C,).
        reduction: as in `prototype_consistency`, over foreground channels.
        detach_large: True stops the gradient into the full-size CAM.

    Returns:
        (B,) float32.
    """
    large = cam_weight.detach() if detach_large else cam_weight
    size = cam_weight_half.shape[2:]
    large = F.interpolate(large[:, 1:], size=size, mode="bilinear", align_corners=True)
    weight = (labels.float() * dc)[:, :, None, None]
    return _reduce((large - cam_weight_half[:, 1:]).abs() * weight, reduction)


def _reduce(distance: Tensor, reduction: str) -> Tensor:
    per_class = distance.mean(dim=(2, 3))
    return per_class.mean(dim=1) if reduction == "mean" else per_class.sum(dim=1)
