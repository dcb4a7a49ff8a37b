"""From CAMs and edge maps to labels: the rules of SFC, SIPE and IRN, by one random walk or two."""

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
    foreground_power: float | None,
    background: float | None,
    whole_power: float | None,
) -> list[Tensor]:
    """The labels of one walk or two, for images of one size.

    One walk spreads the foreground of cam^foreground_power, and a constant stands for the background; another spreads
    all of cam^whole_power, background channel included. Each result is divided by its maximum; the largest value wins,
    of their sum where both are made. The public rules: SFC makes both, with powers 1.3 and 1.69 and the constant 0.25;
    SIPE the second alone, with power 1.5; IRN the first alone, with power 1 and its constant.

    Args:
        cams: one (K', H, W) float32 >= 0 an image, background first; K' > 1 may differ.
        edge: (B, h, w) float32 in 0..1, their edge maps at stride 4.
        seen: (height, width) of the images IRN's network saw, (H, W) unless they were resized for it.
        radius, beta, steps: see `random_walk`.
        foreground_power: None for no such walk; at least one of the two is made.
        background: the constant, beside a foreground whose maximum is 1; None exactly where `foreground_power` is.
        whole_power: None for no such walk.

    Returns:
        One (H, W) int64 an image: the number of the winning channel.
    """
    started = []
    for cam in cams:
        small = F.interpolate(cam[None], size=edge.shape[1:], mode="bilinear", align_corners=False)[0]
        foreground = [] if foreground_power is None else [small[1:] ** foreground_power]
        whole = [] if whole_power is None else [small**whole_power]
        started.append(torch.cat(foreground + whole))
    walked = random_walk(pad_sequence(started, batch_first=True), edge, radius=radius, beta=beta, steps=steps)
    labels = []
    for cam, start, maps in zip(cams, started, walked, strict=True):
        maps = _upsample(maps[: len(start)], seen, cam.shape[1:])  # the rest is padding
        total = torch.zeros_like(cam) if whole_power is None else _scaled(maps[-len(cam) :])
        if foreground_power is not None:
            total[0] += background
            total[1:] += _scaled(maps[: len(cam) - 1])
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
