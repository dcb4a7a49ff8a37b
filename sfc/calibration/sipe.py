"""SIPE (Chen et al. 2022): structure-aware seeds and the image-specific CAM, the method SFC grew out of."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from sfc.calibration.cams import EPS


def structure_seeds(cam: Tensor, feature: Tensor, mask: Tensor, *, bkg_scale: float) -> Tensor:
    """Each pixel to the class whose CAM looks most like the pixel's own correlation map.

    The likeness is the soft intersection over union of the map of a pixel's rectified cosine with all pixels, and of
    a class's CAM. All intersections are one matrix product; no (B, K, HW, HW) tensor is made.

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
        structure = F.relu(pixels.transpose(1, 2) @ pixels)
        maps = cam.float().flatten(2)
        shared = maps @ structure
        union = structure.sum(dim=1, keepdim=True) + maps.sum(dim=2, keepdim=True) - shared
        likeness = shared / (union + EPS)
        likeness[:, 0] *= bkg_scale
        best = likeness.max(dim=1, keepdim=True).indices
        return torch.zeros_like(likeness).scatter_(1, best, 1.0).view_as(cam) * mask
