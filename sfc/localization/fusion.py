"""From raw multi-scale CAMs to one map a class: scales summed, background rule, both kinds added (Eq. 9)."""

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


def fuse(
    normalised: Tensor, kinds: Sequence[str], *, weights: Mapping[str, float], fg_gain: float, bg_offset: float
) -> Tensor:
    """M = M_W + prototype_weight * M_P (Eq. 9), each after the background rule.

    Args:
        normalised: (kinds, K', H, W) from `normalise_scales`: the classifier CAM, then the prototype CAM; or the
            one CAM that stands for a method without such a sum (`CamStore.fused`), which has no weight.

    Returns:
        (K', H, W) float32, background first.
    """
    cams = background_rule(normalised, fg_gain=fg_gain, bg_offset=bg_offset)
    if set(weights) != set(kinds):
        raise UserError(f"fusion: weights of {', '.join(weights)}, but the CAMs are {', '.join(kinds)}")
    total = cams[0] * weights[kinds[0]]
    for cam, kind in zip(cams[1:], kinds[1:], strict=True):
        total = torch.add(total, cam, alpha=weights[kind])
    return total


def label_keys(labels: Sequence[int]) -> tuple[int, ...]:
    """Label-map value of each channel of a CAM: background 0, then i + 1 for each present class i."""
    return (0, *(label + 1 for label in labels))


def to_labels(argmax: Tensor | np.ndarray, keys: Sequence[int]) -> np.ndarray:
    """Channel numbers (H, W) as label-map values, uint8; `keys` as from `label_keys`."""
    return np.asarray(keys, dtype=np.uint8)[np.asarray(argmax)]
