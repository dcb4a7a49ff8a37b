"""The seeds of Eq. 3: which pixels of an image each class's prototype averages."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from sfc.calibration.cams import EPS, column_parts


def prototype_seeds(
    cam: Tensor,
    mask: Tensor,
    *,
    mode: str,
    bkg_scale: float,
    threshold: float,
    seed_range: str,
    feature: Tensor | None = None,
) -> Tensor:
    """Which pixels each prototype averages: the binary mask of Eq. 3.

    "argmax" and "threshold" compare channels by their values, and so need a CAM that reaches them: with bkg_scale 0.3
    and one class, the background gets a pixel only where that class is below 0.23. A correlation that has not learned
    yet leaves maps that vary by a few hundredths, none of them so low. "structure" compares whole maps.

    Args:
        cam: (B, K, H, W) classifier-weight CAM, background first.
        mask: broadcastable to cam; 0 where a class may have no seed.
        mode: "argmax" gives a pixel to its strongest channel, the background weighted by `bkg_scale` (released
            code); "threshold" to every channel above `threshold` (as Eq. 3 is printed); "structure" as SIPE does,
            see `structure_seeds` (SIPE itself correlates layer4 in training).
        seed_range: "none" reads the CAM as it is (released code); "image" scales every channel of every image to its
            own minimum and maximum first, see `image_range`.
        feature: (B, D, H, W), what "structure" correlates; the others do without.

    Returns:
        (B, K, H, W) float32, 0 or 1, without gradient.
    """
    cam = cam.detach()
    if seed_range == "image":
        cam = image_range(cam, mask)
    if mode == "threshold":
        return (cam > threshold).float() * mask
    if mode == "structure":
        return structure_seeds(cam, feature, mask, bkg_scale=bkg_scale)
    weighted = torch.cat([cam[:, :1] * bkg_scale, cam[:, 1:]], dim=1)
    one_hot = torch.zeros_like(cam).scatter_(1, weighted.max(dim=1, keepdim=True).indices, 1.0)
    return one_hot * mask


def image_range(cam: Tensor, mask: Tensor) -> Tensor:
    """Every channel scaled so that its smallest value over the pixels of `mask` is 0 and its largest 1.

    Args:
        cam: (B, K, H, W).
        mask: broadcastable to cam, 0 or 1. Where it is 0 the result is 0: an absent class, whose CAM is noise, would
            else be scaled up with the others and take their pixels.

    Returns:
        (B, K, H, W); a channel of one value, such as that of a single cell, keeps it: nothing there is high or low.
    """
    outside = (mask == 0).expand_as(cam)
    low = cam.masked_fill(outside, torch.inf).amin(dim=(2, 3), keepdim=True)
    span = cam.masked_fill(outside, -torch.inf).amax(dim=(2, 3), keepdim=True) - low
    return torch.where(span > 0, (cam - low) / (span + EPS), cam).masked_fill(outside, 0.0)


def structure_seeds(cam: Tensor, feature: Tensor, mask: Tensor, *, bkg_scale: float) -> Tensor:
    """Each pixel to the class whose CAM looks most like the pixel's own correlation map.

    The likeness is the soft intersection over union of the map of a pixel's rectified cosine with all pixels, and of
    a class's CAM. All intersections are one matrix product; no (B, K, HW, HW) tensor is made, and where (B, HW, HW)
    is too large (panoramas) that is made in parts.

    Args:
        cam: (B, K, H, W) in 0..1, background first, cleared outside the image and for absent classes.
        feature: (B, D, H, W).
        mask: broadcastable to cam; 0 where a class may have no seed.
        bkg_scale: weight of the background's likeness; 0.5 in the released code.

    Returns:
        (B, K, H, W) float32, 0 or 1, without gradient.
    """
    with torch.no_grad(), torch.autocast(cam.device.type, enabled=False):
        pixels = feature.float().flatten(2)
        pixels = pixels / (pixels.norm(dim=1, keepdim=True) + EPS)
        maps = cam.float().flatten(2)
        likeness = torch.cat([_likeness(maps, pixels, part) for part in column_parts(pixels)], dim=2)
        likeness[:, 0] *= bkg_scale
        best = likeness.max(dim=1, keepdim=True).indices
        return torch.zeros_like(likeness).scatter_(1, best, 1.0).view_as(cam) * mask


def _likeness(maps: Tensor, pixels: Tensor, part: Tensor) -> Tensor:
    """(B, K, HW) CAMs, unit features of all HW pixels and of n of them -> (B, K, n) soft intersection over union."""
    structure = F.relu(pixels.transpose(1, 2) @ part)
    shared = maps @ structure
    union = structure.sum(dim=1, keepdim=True) + maps.sum(dim=2, keepdim=True) - shared
    return shared / (union + EPS)
