"""What shows during training whether the CAMs and their seeds are sound: detached, so that no loss depends on it.

Each function gives a sum and a count over this process's images as two tensors, so that `averaged` is exact for a batch
that several processes share; nothing waits for the device.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from sfc.training import distributed

SAMPLED_PIXELS = 16  # of an image, whose rows of the correlation `effective_share` looks at


@torch.no_grad()
def no_background_seed(seeds: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Images without a single seed of the background, and images; an empty slot of the image bank is none.

    Args:
        seeds: (B, K, H, W), background first, 0 or 1.
        mask: (B, K, H, W), where a seed may be.
    """
    without = (_somewhere(mask) & ~_somewhere(seeds))[:, 0]
    return without.float().sum(), _somewhere(mask)[:, 0].float().sum()


@torch.no_grad()
def empty_prototypes(seeds: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Prototypes without any seed (Eq. 3 divides by 0), and prototypes: background and present classes of each image.

    Args:
        seeds, mask: as in `no_background_seed`.
    """
    return (_somewhere(mask) & ~_somewhere(seeds)).float().sum(), _somewhere(mask).float().sum()


@torch.no_grad()
def cam_range(cam: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Largest minus smallest value of each present class's map within its image, added up, and how many maps.

    Args:
        cam: (B, K, H, W), background first.
        mask: (B, K, H, W), 0 or 1.
    """
    inside, foreground = mask[:, 1:] > 0, cam[:, 1:].float()
    high = foreground.masked_fill(~inside, -torch.inf).amax(dim=(2, 3))
    low = foreground.masked_fill(~inside, torch.inf).amin(dim=(2, 3))
    there = _somewhere(inside)
    return torch.where(there, high - low, 0.0).sum(), there.float().sum()


@torch.no_grad()
def effective_share(feature: Tensor) -> tuple[Tensor, Tensor]:
    """Share of a crop's pixels, padding included, that one product with the pixel correlation averages.

    A refined pixel is the mean of all pixels i with the weights a_i that `cams.pixel_correlation` gives them, the
    rectified cosines scaled to a sum of 1. Their participation ratio 1 / sum_i a_i^2 is n for n equal weights, so

        share = 1 / (HW sum_i a_i^2) = (sum_i c_i)^2 / (HW sum_i c_i^2)     (c_i the cosine itself)

    is 1 where the product replaces every value by the image's mean, and 1 / HW where it changes nothing. Of every
    image, `SAMPLED_PIXELS` evenly spaced pixels are looked at: all would cost as much as the product.

    Args:
        feature: (B, D, H, W) what is correlated.
    """
    with torch.autocast(feature.device.type, enabled=False):
        pixels = feature.flatten(2).float()
        total = pixels.shape[2]
        chosen = torch.linspace(0, total - 1, min(total, SAMPLED_PIXELS), device=feature.device).round().long()
        # a row's own length cancels in the ratio, so only the others' are divided out
        rows = (pixels[:, :, chosen].transpose(1, 2) @ pixels).clamp_min(0)
        rows = rows / pixels.norm(dim=1)[:, None].clamp_min(torch.finfo(torch.float32).tiny)
        rows = rows / rows.amax(dim=2, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)  # squares stay finite
        shares = rows.sum(dim=2).square() / (total * rows.square().sum(dim=2).clamp_min(1e-12))
    return shares.sum(), shares.new_full((), shares.numel())


def averaged(parts: Mapping[str, tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    """Sums and counts as means over the global batch, scalars as losses are, in one exchange between processes."""
    sums, counts = (torch.stack(column) for column in zip(*parts.values(), strict=True))
    return dict(zip(parts, distributed.global_mean(sums, counts).unbind(), strict=True))


def _somewhere(maps: Tensor) -> Tensor:
    """(B, K, H, W) to (B, K) bool: not 0 at some pixel."""
    return (maps != 0).flatten(2).any(dim=2)
