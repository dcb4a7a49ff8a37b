"""From raw multi-scale CAMs to one map a class: scales summed, background rule, kinds added (Eq. 9)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sfc.errors import UserError

EPS = 1e-5  # added to each maximum, public implementation


def normalise_scales(maps: Sequence[Tensor | np.ndarray], size: tuple[int, int]) -> Tensor:
    """Resize the maps of all scales to the image, add them, and divide each channel by its maximum.

    Args:
        maps: one (kinds, K', h, w) float32 a scale, >= 0, on one device.
        size: (H, W) of the image.

    Returns:
        (kinds, K', H, W) float32 in 0..1; a channel that is zero everywhere stays zero.
    """
    arrays = [torch.as_tensor(m) for m in maps]
    rows = torch.cat([_interpolation(m, -2, size[0]) @ m for m in arrays], dim=-1)
    columns = torch.cat([_interpolation(m, -1, size[1]).T for m in arrays])
    total = rows @ columns
    return total / (total.amax(dim=(-2, -1), keepdim=True) + EPS)


def _interpolation(maps: Tensor, axis: int, size: int) -> Tensor:
    """Bilinear resizing of one axis as a (size, n) matrix.

    Resizing is linear and separable, so the sum over scales is two matrix products, several times quicker than
    resizing each scale and adding.
    """
    identity = torch.eye(maps.shape[axis], dtype=maps.dtype, device=maps.device)
    return F.interpolate(identity[None], size=size, mode="linear", align_corners=False)[0].T


def background_rule(cams: Tensor, *, fg_gain: float, bg_offset: float) -> Tensor:
    """The public rule that decides between background and classes: foreground times a gain, background plus a constant.

    Args:
        cams: (..., K', H, W), background first.

    Returns:
        A new tensor of the same shape.
    """
    gain = cams.new_full((cams.shape[-3], 1, 1), fg_gain)
    gain[0] = 1
    ruled = cams * gain
    ruled[..., 0, :, :] += bg_offset
    return ruled


def gain_of(kind: str, fg_gain: float | Mapping[str, float]) -> float:
    """The gain of one kind, where there is one for all or one for each."""
    return fg_gain[kind] if isinstance(fg_gain, Mapping) else fg_gain


def fuse(
    normalised: Tensor,
    kinds: Sequence[str],
    *,
    weights: Mapping[str, float],
    fg_gain: float | Mapping[str, float],
    bg_offset: float,
) -> Tensor:
    """The weighted sum of the CAMs that stand for a method, each after the background rule; for SFC that is Eq. 9.

    Args:
        normalised: (kinds, K', H, W) from `normalise_scales`.
        kinds: names of the first axis.
        weights: kind -> weight, for exactly these kinds; `check_weights` says in time if they are others.
        fg_gain: one gain, or one for each of these kinds: what a background map is worth differs from kind to kind.

    Returns:
        (K', H, W) float32, background first.
    """
    cams = [
        background_rule(cam, fg_gain=gain_of(kind, fg_gain), bg_offset=bg_offset)
        for cam, kind in zip(normalised, kinds, strict=True)
    ]
    return weighted_sum(cams, [weights[kind] for kind in kinds])


def check_weights(kinds: Sequence[str], weights: Mapping[str, float]) -> None:
    """Raise UserError unless `weights` names exactly `kinds`, those of a store that was opened."""
    if set(weights) != set(kinds):
        raise UserError(
            f"fusion: weights of {', '.join(weights) or 'no kind'}, but the CAMs that stand for the method are "
            f"{', '.join(kinds)}; name these, or run infer_cam again if the CAMs are of another method"
        )


def weighted_sum(maps: Tensor | Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Maps (kinds, ...) added up with a weight each."""
    total = maps[0] * weights[0]
    for kind, weight in zip(maps[1:], weights[1:], strict=True):
        total = torch.add(total, kind, alpha=weight)
    return total


def to_labels(argmax: Tensor | np.ndarray, keys: Sequence[int]) -> np.ndarray:
    """Channel numbers (H, W) as label-map values, uint8; `keys` as from `label_keys`."""
    return np.asarray(keys, dtype=np.uint8)[np.asarray(argmax)]
