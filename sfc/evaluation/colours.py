"""Colours of classes in pictures and charts: any two as unlike as can be, those of the first classes most.

Label PNGs keep the palette of PASCAL VOC, in which neighbours (128, 0, 0) and (64, 0, 0) are two classes.
"""

from __future__ import annotations

from functools import cache

import numpy as np

# linear RGB to the cones' answers, and their cube roots to OKLab (Ottosson 2020), where distance is unlikeness
_CONES = np.array(
    [
        (0.4122214708, 0.5363325363, 0.0514459929),
        (0.2119034982, 0.6806995451, 0.1073969566),
        (0.0883024619, 0.2817188376, 0.6299787005),
    ]
)
_LAB = np.array(
    [
        (0.2104542553, 0.7936177850, -0.0040720468),
        (1.9779984951, -2.4285922050, 0.4505937099),
        (0.0259040371, 0.7827717662, -0.8086757660),
    ]
)
_LEVELS = np.arange(0, 256, 17)  # of each channel, in what is chosen from
_LIGHTNESS = 0.45, 0.8  # to be seen on black and on white
_CHROMA = 0.22  # at most: purer ones hide the image beneath and glare


def oklab(rgb: np.ndarray) -> np.ndarray:
    """(N, 3) sRGB in 0..255 -> (N, 3) float64 lightness in 0..1 and the two axes of hue."""
    share = np.asarray(rgb, np.float64) / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    return np.cbrt(linear @ _CONES.T) @ _LAB.T


@cache
def class_colours(number: int, apart: tuple[tuple[int, int, int], ...]) -> np.ndarray:
    """(number, 3) uint8: one after another, the colour that is farthest from all before it.

    The first ones do not depend on `number`.

    Args:
        number: at most some hundreds.
        apart: colours with a meaning of their own, from which all are to be far, too.
    """
    grid = np.stack(np.meshgrid(_LEVELS, _LEVELS, _LEVELS, indexing="ij"), axis=-1).reshape(-1, 3)
    places = oklab(grid)
    seen = (places[:, 0] >= _LIGHTNESS[0]) & (places[:, 0] <= _LIGHTNESS[1])
    seen &= np.hypot(places[:, 1], places[:, 2]) <= _CHROMA
    grid, places = grid[seen], places[seen]
    nearest = np.full(len(grid), np.inf)
    chosen: list[int] = []
    for place in oklab(np.array(apart)):
        nearest = np.minimum(nearest, np.linalg.norm(places - place, axis=1))
    while len(chosen) < number:
        chosen.append(int(nearest.round(6).argmax()))  # rounded: equal on every machine
        nearest = np.minimum(nearest, np.linalg.norm(places - places[chosen[-1]], axis=1))
    colours = grid[chosen].astype(np.uint8)
    colours.setflags(write=False)
    return colours
