"""Random walk of class maps along pixel affinities (IRN, Ahn et al., 2019), by sparse products only.

The transition matrix is never raised to a power, and a walk of n steps takes far fewer than n products with it:
z^n is a series of Chebyshev polynomials whose weights are the chances of n fair coin tosses, all but nothing of which
lies within a few sqrt(n) (Sachdeva and Vishnoi, 2014, section 3). 256 steps take 92 products.
"""

from __future__ import annotations

import math
import warnings
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from sfc.irn.pair_paths import offsets, pair_affinities

# Left out, beside an affinity of 1 with itself: 256 steps can carry no more than 2e-6 of a map through such entries.
_NO_AFFINITY = 1e-10
_SERIES_TAIL = 1e-8  # weight of the polynomials left out


def random_walk(maps: Tensor, edge: Tensor, *, radius: int, beta: float, steps: int) -> Tensor:
    """Spread maps over pixels that no edge divides.

    A pixel's new value is the mean over itself and all pixels closer than `radius`, weighted by affinity^beta (1 with
    itself, 0 with pixels outside the image); affinity as in `pair_affinities`. It starts from maps * (1 - edge).

    Args:
        maps: (B, C, H, W) float32, >= 0.
        edge: (B, H, W) float32 in 0..1.

    Returns:
        (B, C, H, W) float32: the maps after `steps` steps. Channels do not mix. Computed in float64: in float32, 256
        steps are 1e-4 of the maximum off, whatever way they are made.
    """
    batch, channels, height, width = maps.shape
    if batch > 1 and maps.device.type == "cpu":  # the matrix of one image stays in a core's cache
        pairs = zip(maps.split(1), edge.split(1), strict=True)
        return torch.cat([random_walk(*pair, radius=radius, beta=beta, steps=steps) for pair in pairs])
    edge = edge.double()
    started = maps * (1 - edge[:, None])
    transition = _transition(edge, radius, beta)
    values = started.permute(0, 2, 3, 1).reshape(-1, channels)
    weights = _chebyshev_weights(steps)
    before, now = values, transition @ values
    total = weights[0] * before
    for weight in weights[1:]:
        total.add_(now, alpha=weight)
        before, now = now, torch.addmm(before, transition, now, beta=-1, alpha=2)
    return total.view(batch, height, width, channels).permute(0, 3, 1, 2).float()


def _transition(edge: Tensor, radius: int, beta: float) -> Tensor:
    """The walk's (BHW, BHW) matrix, rows summing to 1, as sparse CSR; images do not meet."""
    width = edge.shape[2]
    affinity = pair_affinities(edge, radius).pow(beta)
    affinity[affinity < _NO_AFFINITY] = 0
    affinity = affinity.transpose(0, 1).flatten(1)  # (P, B * H * W)
    rows, shifts = [torch.ones_like(affinity[0])], [0]
    for (dy, dx), forward in zip(offsets(radius), affinity, strict=True):
        shift = dy * width + dx
        rows += [forward, forward.roll(shift)]  # no affinity leads out of an image, so none is rolled into another
        shifts += [shift, -shift]
    order = sorted(range(len(shifts)), key=shifts.__getitem__)  # CSR keeps a row's columns in ascending order
    dense = torch.stack([rows[i] for i in order], dim=1)
    dense /= dense.sum(dim=1, keepdim=True)
    present = dense > 0
    columns = torch.arange(len(dense), dtype=torch.int32, device=edge.device)[:, None]
    columns = columns + torch.tensor([shifts[i] for i in order], dtype=torch.int32, device=edge.device)
    ends = present.sum(dim=1).cumsum(0, dtype=torch.int32)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse (CSR|invariant)")
        size = (len(dense), len(dense))
        return torch.sparse_csr_tensor(
            F.pad(ends, (1, 0)), columns[present], dense[present], size=size, check_invariants=False
        )


@lru_cache
def _chebyshev_weights(steps: int) -> tuple[float, ...]:
    """c with z^steps = sum of c[k] T_k(z) for -1 <= z <= 1, up to `_SERIES_TAIL`.

    With z = cos t, z^n is the mean of cos(S t) over S = the sum of n fair signs, and cos(k t) = T_k(z): c[k] is the
    chance that |S| = k.
    """
    chances = [0.0] * (steps + 1)
    for heads in range(steps + 1):
        chances[abs(2 * heads - steps)] += math.comb(steps, heads) / 2**steps
    left = 1.0
    for count, chance in enumerate(chances, start=1):
        left -= chance
        if left < _SERIES_TAIL:
            return tuple(chances[:count])
    return tuple(chances)
