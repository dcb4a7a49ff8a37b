"""From CAMs and edge maps to labels: SFC's rule of two random walks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from sfc.walk.random_walk import random_walk

_STRIDE = 4  # of the edge map


def walk_labels(
    cams: Sequence[Tensor],
    edge: Tensor,
    *,
    seen: tuple[int, int],
    radius: int,
    beta: float,
    steps: int,
    power: float,
    second_power: float,
    background: float,
) -> list[Tensor]:
    """The public SFC rule, for images of one size.

    The first walk spreads the foreground of cam^power, and a constant stands for the background; the second spreads
    all of cam^second_power, background channel included. Each result is divided by its maximum; their sum decides.

    Args:
        cams: one (K', H, W) float32 >= 0 an image, background first; K' > 1 may differ.
        edge: (B, h, w) float32 in 0..1, their edge maps at stride 4.
        seen: (height, width) of the images IRN's network saw, (H, W) unless they were resized for it.
        radius, beta, steps: see `random_walk`.
        background: the constant, beside a foreground whose maximum is 1.

    Returns:
        One (H, W) int64 an image: the number of the winning channel.
    """
    started = []
    for cam in cams:
        small = F.interpolate(cam[None], size=edge.shape[1:], mode="bilinear", align_corners=False)[0]
        started.append(torch.cat([small[1:] ** power, small**second_power]))
    walked = random_walk(pad_sequence(started, batch_first=True), edge, radius=radius, beta=beta, steps=steps)
    labels = []
    for cam, maps in zip(cams, walked, strict=True):
        maps = _upsample(maps[: 2 * len(cam) - 1], seen, cam.shape[1:])
        foreground, total = _scaled(maps[: len(cam) - 1]), _scaled(maps[len(cam) - 1 :])
        total[0] += background
        total[1:] += foreground
        labels.append(total.argmax(dim=0))
    return labels


def _upsample(maps: Tensor, seen: tuple[int, int], size: Sequence[int]) -> Tensor:
    """Maps at stride 4 to the image the network saw, and on to the image itself where that was resized."""
    full = F.interpolate(maps[None], scale_factor=_STRIDE, mode="bilinear", align_corners=False)
    full = full[..., : seen[0], : seen[1]]
    if tuple(seen) != tuple(size):
        full = F.interpolate(full, size=tuple(size), mode="bilinear", align_corners=False)
    return full[0]


def _scaled(maps: Tensor) -> Tensor:
    """Divided by the maximum over all channels; zero maps stay zero."""
    return maps / maps.max().clamp_min(torch.finfo(maps.dtype).tiny)
