"""Class activation maps: classifier-weight CAM (Eq. 2) with its pixel correlation module, prototype CAM (Eq. 3, 4).

Every function works in float32 whatever autocast says: its 1e-5 and 1e-8 vanish in half precision.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from sfc.data.images import box_masks

EPS = 1e-5  # of the public implementation, for maxima, norms and column sums
_AFFINITY_ENTRIES = 1 << 29  # 2 GiB: pixel correlations held at once; a batch of 16 photographs at scale 2 needs less
_PART_ENTRIES = 1 << 26  # made at a time where that is not enough


def valid_mask(boxes: Tensor, labels: Tensor, *, crop: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """Where a crop holds image, for the background and the present classes.

    Args:
        boxes: (B, 4) int, top, left, bottom, right of the image inside its crop, in pixels.
        labels: (B, C) 0 or 1.
        crop, size: (H, W) of the crop and of the mask, see `box_masks`.

    Returns:
        (B, 1 + C, *size) float32, 0 or 1.
    """
    box = box_masks(boxes, canvas=crop, size=size).float()
    return with_background(labels)[:, :, None, None] * box[:, None]


def with_background(labels: Tensor) -> Tensor:
    """(B, C) labels as (B, 1 + C) float32 with the background, always present, in front."""
    return F.pad(labels.float(), (1, 0), value=1.0)


def normalised_cam(class_logits: Tensor) -> Tensor:
    """ReLU, each class scaled to a maximum of 1.

    Args:
        class_logits: (B, C, H, W) classifier weights applied at every pixel.

    Returns:
        (B, C, H, W) float32 in 0..1.
    """
    cam = F.relu(class_logits.float())
    return cam / (cam.amax(dim=(2, 3), keepdim=True) + EPS)


def prepend_background(cam: Tensor) -> Tensor:
    """(B, C, H, W) foreground in 0..1 to (B, 1 + C, H, W): the background is 1 - the largest of all classes (Eq. 2)."""
    return torch.cat([1 - cam.amax(dim=1, keepdim=True), cam], dim=1)


def pixel_correlation(cam: Tensor, feature: Tensor, *, iters: int) -> Tensor:
    """Pixel correlation module: average every map over similar pixels.

    The similarity is the rectified cosine of the features of two pixels, its columns scaled to a sum of 1. The maps
    are multiplied by it `iters` times (0: returned as they are); the (HW, HW) matrix itself is never squared. Where
    it is too large (35 GB for a panorama of 6000 x 1000 pixels at scale 2), it is made in parts and never held.
    Gradients reach both arguments.

    Args:
        cam: (B, K, H, W).
        feature: (B, D, H, W).

    Returns:
        (B, K, H, W) float32.
    """
    if not iters:
        return cam.float()
    with torch.autocast(cam.device.type, enabled=False):
        f = feature.float().flatten(2)
        f = f / (f.norm(dim=1, keepdim=True) + EPS)
        parts = column_parts(f)
        whole = _affinity(f, f) if len(parts) == 1 else None
        refined = cam.float().flatten(2)
        for _ in range(iters):
            if whole is not None:
                refined = refined @ whole
            else:
                refined = torch.cat([refined @ _affinity(f, part) for part in parts], dim=2)
        return refined.view_as(cam)


def column_parts(feature: Tensor) -> tuple[Tensor, ...]:
    """Pixels (B, D, HW) in parts so small that correlating one with all pixels fits in memory; mostly in one."""
    batch, _, pixels = feature.shape
    if batch * pixels**2 <= _AFFINITY_ENTRIES:
        return (feature,)
    return feature.split(max(1, _PART_ENTRIES // (batch * pixels)), dim=2)


def _affinity(f: Tensor, part: Tensor) -> Tensor:
    """Rectified cosine of all pixels of unit features with those of a part, its columns scaled to a sum of 1."""
    affinity = F.relu(f.transpose(1, 2) @ part)
    return affinity / (affinity.sum(dim=1, keepdim=True) + EPS)


def hierarchical_feature(sides: list[Tensor], size: tuple[int, int]) -> Tensor:
    """L of Eq. 3: every level scaled to unit length at each pixel, resized to `size`, concatenated.

    Args:
        sides: (B, D_i, H_i, W_i) projections of the trunk's levels.

    Returns:
        (B, sum of D_i, *size) float32.
    """
    levels = []
    for side in sides:
        side = side.float()
        side = side / (side.norm(dim=1, keepdim=True) + EPS)
        levels.append(F.interpolate(side, size=size, mode="bilinear", align_corners=False))
    return torch.cat(levels, dim=1)


def class_prototypes(feature: Tensor, seeds: Tensor) -> Tensor:
    """Masked average pooling of Eq. 3, without its scale, which the cosine of Eq. 4 ignores.

    Args:
        feature: (B, D, H, W).
        seeds: (B, K, H, W).

    Returns:
        (B, K, D): mean over all pixels of seed times feature; zero for a class without seeds.
    """
    pixels = feature.shape[2] * feature.shape[3]
    return seeds.flatten(2) @ feature.float().flatten(2).transpose(1, 2) / pixels


def prototype_cam(feature: Tensor, seeds: Tensor) -> Tensor:
    """Rectified cosine of every pixel's feature and every class prototype (Eq. 4), as two matrix products.

    Args:
        feature: (B, D, H, W) hierarchical feature.
        seeds: (B, K, H, W).

    Returns:
        (B, K, H, W) float32 in 0..1; zero for a class without seeds.
    """
    with torch.autocast(feature.device.type, enabled=False):
        prototypes = F.normalize(class_prototypes(feature, seeds), dim=2, eps=1e-8)
        pixels = F.normalize(feature.float().flatten(2), dim=1, eps=1e-8)
        return F.relu(prototypes @ pixels).view_as(seeds)


def max_normalised(cam: Tensor) -> Tensor:
    """Every channel of (B, K, H, W) divided by its spatial maximum + 1e-5."""
    return cam / (cam.amax(dim=(2, 3), keepdim=True) + EPS)
