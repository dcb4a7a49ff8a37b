"""Pixel pairs within a radius and the edges on the paths between them (IRN, Ahn et al., 2019), without index tensors.

A pair is a pixel and the pixel at one of `offsets` from it. Its affinity is 1 - the largest edge on its path. Maps are
laid out flat, row after row, so that "the pixel at an offset" is the same map, shifted. Most of a path is made of
shorter paths, whose maxima are known already: `_recipes` finds them, and at radius 10 two or three shifted maps give
the maximum of up to 22 points (325 reads of a map instead of 2,134).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

Offset = tuple[int, int]  # (dy, dx)


def path(offset: Offset) -> frozenset[Offset]:
    """The points of the bounding box of (0, 0) and `offset` that are closer than 1 to the segment between them."""
    dy, dx = offset
    box = ((y, x) for y in range(dy + 1) for x in range(min(0, dx), max(0, dx) + 1))
    return frozenset((y, x) for y, x in box if (dy * x - dx * y) ** 2 < dy * dy + dx * dx)


@lru_cache
def offsets(radius: int) -> tuple[Offset, ...]:
    """The half disc of offsets closer than `radius`, right and below; shortest paths first, as the public code."""
    right = [(0, x) for x in range(1, radius)]
    below = [(y, x) for y in range(1, radius) for x in range(1 - radius, radius) if x * x + y * y < radius * radius]
    return tuple(sorted(right + below, key=lambda offset: len(path(offset))))


@lru_cache
def _recipes(radius: int) -> tuple[tuple[tuple[int, Offset], ...], ...]:
    """For each offset, shifted earlier paths that together are its path: (0 for a pixel itself, else 1 + k; shift)."""
    known = [frozenset({(0, 0)})]
    recipes = []
    for offset in offsets(radius):
        points = path(offset)
        inside = []
        for source, other in enumerate(known):
            for dy, dx in sorted(points):
                moved = {(y + dy, x + dx) for y, x in other}
                if moved <= points:
                    inside.append(((source, (dy, dx)), moved))
        recipe, left = [], set(points)
        while left:
            part, moved = max(inside, key=lambda candidate: len(candidate[1] & left))
            recipe.append(part)
            left -= moved
        recipes.append(tuple(recipe))
        known.append(points)
    return tuple(recipes)


@dataclass(frozen=True)
class FlatPath:
    """One offset's path in maps laid out flat.

    Attributes:
        shift: from a pixel to its partner.
        before, after: how far the path reaches to the left and right of a pixel in the flat map.
        parts: (source, shift) of the maps whose maximum it is: source 0 is the edge map, 1 + k the k-th path's maximum.
    """

    shift: int
    before: int
    after: int
    parts: tuple[tuple[int, int], ...]

    def views(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """For each part, the view of its map that lies over the pixels whose whole path is inside the map."""
        start, stop = self.span(maps[0].shape[-1])
        return [maps[source][..., start + shift : stop + shift] for source, shift in self.parts]

    def span(self, size: int) -> tuple[int, int]:
        """First and last (excluded) pixel whose whole path is inside a flat map of `size` pixels."""
        return self.before, max(self.before, size - self.after)


@lru_cache(maxsize=64)
def flat_paths(radius: int, width: int) -> tuple[FlatPath, ...]:
    """The paths to `offsets(radius)`, in that order, in flat maps whose rows are `width` long."""
    flat = []
    for offset, recipe in zip(offsets(radius), _recipes(radius), strict=True):
        shifts = [y * width + x for y, x in path(offset)]
        parts = tuple((source, y * width + x) for source, (y, x) in recipe)
        flat.append(FlatPath(offset[0] * width + offset[1], max(0, -min(shifts)), max(shifts), parts))
    return tuple(flat)


def path_maxima(edge: Tensor, paths: Sequence[FlatPath]) -> list[Tensor]:
    """Largest edge on the path from each pixel.

    Args:
        edge: (B, N) float, flat maps.

    Returns:
        1 + P tensors (B, N): `edge` itself, then one for each path; 1 where the path leaves the flat map. A path
        that leaves its row on the side goes on in the next one: callers pad the maps, or do not use such pixels.
    """
    maps = [edge]
    for p in paths:
        first, *rest = p.views(maps)
        maximum = torch.ones_like(edge)
        inside = maximum[:, slice(*p.span(edge.shape[1]))]
        inside.copy_(first)
        for view in rest:
            torch.maximum(inside, view, out=inside)
        maps.append(maximum)
    return maps


def pair_affinities(edge: Tensor, radius: int) -> Tensor:
    """1 - the largest edge between each pixel and its partner at each of `offsets(radius)`.

    Args:
        edge: (B, H, W) float in 0..1.

    Returns:
        (B, P, H, W) in 0..1; 0 where the partner is outside the image.
    """
    height, width = edge.shape[1:]
    margin = radius - 1
    padded = F.pad(edge, (0, margin, 0, margin), value=1.0)  # an edge all around: no affinity across it
    maxima = path_maxima(padded.flatten(1), flat_paths(radius, width + margin))
    return torch.stack([1 - m.view_as(padded)[:, :height, :width] for m in maxima[1:]], dim=1)
