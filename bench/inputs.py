"""Random inputs that look enough like the real ones."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from sfc.calibration.network import Maps
from sfc.methods.sfc import SfcNetwork


def uniform(*shape: int, seed: int = 0) -> Tensor:
    """float32 in 0..1."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def smooth(*shape: int, seed: int = 0) -> Tensor:
    """(B, C, H, W) float32 in 0..1 without sharp edges, as CAMs and photographs are."""
    coarse = uniform(*shape[:2], *(max(2, side // 16) for side in shape[2:]), seed=seed)
    return F.interpolate(coarse, size=shape[2:], mode="bilinear", align_corners=False)


def regions(batch: int, classes: int, height: int, width: int) -> Tensor:
    """(B, H, W) uint8 label maps of 0..classes-1 in regions."""
    return smooth(batch, classes, height, width, seed=1).argmax(dim=1).to(torch.uint8)


class DrawnSeeds(SfcNetwork):
    """An SFC network that finds its seeds, and then takes the thirds of the image instead.

    The maps of random weights are flat after PCM: one class wins all over an image, by less than 0.01. Rounding can
    hand such an image to another class, whose prototype CAM is then 0 in one form and 1 in the other. Nothing else made
    CAMs in bf16 differ by 1.0: with one form's seeds in both they agree to 3e-4.
    """

    def seeds(self, maps: Maps, cam: Tensor, mask: Tensor) -> Tensor:
        return drawn(super().seeds(maps, cam, mask)) * mask


def drawn(seeds: Tensor) -> Tensor:
    """(B, K, H, W) seeds of the first three channels, a third of the width each; K is 3 or more."""
    third = torch.arange(seeds.shape[3], device=seeds.device) * 3 // seeds.shape[3]
    return torch.zeros_like(seeds) + (torch.arange(seeds.shape[1], device=seeds.device)[:, None, None] == third)


def cam_network(arch: str, num_classes: int, *, drawn_seeds: bool = True) -> SfcNetwork:
    """A CAM network of the released code's settings, with random weights; see `DrawnSeeds`."""
    torch.manual_seed(0)
    return (DrawnSeeds if drawn_seeds else SfcNetwork)(
        arch=arch,
        num_classes=num_classes,
        frozen_stages=3,
        batch_norm="frozen",
        pcm_iters=2,
        bkg_before_pcm=True,
        prototype={"mode": "argmax", "bkg_scale": 0.3, "threshold": 0.3, "seed_range": "none"},
    )
