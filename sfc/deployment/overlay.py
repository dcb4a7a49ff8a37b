"""Results drawn over their image, large enough to read the names of classes in it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw
from scipy.ndimage import distance_transform_edt

from sfc.data.images import resize_label
from sfc.evaluation.drawing import INK, PAPER, font, heat_over

_SIDE = 480  # pixels: smaller images are magnified to about this
_SEARCHED = 256  # side of the label map in which places for names are searched
_COVER = 0.5  # of the image by the colour of a class


def label_overlay(
    image: np.ndarray, label: np.ndarray, classes: Sequence[str], palette: Sequence[tuple[int, int, int]]
) -> Image.Image:
    """The classes of a label map over the image, each with its name where it is widest.

    Args:
        image: (H, W, 3) uint8 RGB.
        label: (H, W) uint8 of values below len(palette).
        classes: names of the foreground classes, values 1 and up.
        palette: R, G, B of each value.
    """
    colours = np.asarray(palette, np.float64)
    picture, labels = _magnified(image, label)
    covered = (labels > 0)[:, :, None] * _COVER
    pixels = picture * (1 - covered) + colours[labels] * covered
    pixels[_borders(labels)] = PAPER
    drawn = Image.fromarray(pixels.round().astype(np.uint8))
    present = [int(value) for value in np.unique(label) if value > 0]
    _write_names(drawn, {classes[value - 1]: (_widest(labels, value), palette[value]) for value in present})
    return drawn


def heat_overlay(image: np.ndarray, heat: np.ndarray, name: str) -> Image.Image:
    """One heat map (H, W) in 0..1 over the (H, W, 3) uint8 image in grey, with the name of its class."""
    picture, _ = _magnified(heat_over(image, heat), np.zeros(heat.shape, np.uint8))
    drawn = Image.fromarray(picture)
    _write_names(drawn, {name: ((0, 0), INK)})
    return drawn


def _magnified(image: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both by the whole factor that brings the longer side near `_SIDE`."""
    height, width = label.shape
    factor = max(1, _SIDE // max(height, width))
    size = (width * factor, height * factor)
    large = Image.fromarray(image).resize(size, Image.Resampling.BICUBIC)
    return np.asarray(large), label.repeat(factor, 0).repeat(factor, 1)


def _borders(labels: np.ndarray) -> np.ndarray:
    """Pixels whose neighbour to the right or below has another label, (H, W) bool."""
    border = np.zeros(labels.shape, bool)
    border[:-1] |= labels[:-1] != labels[1:]
    border[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    return border


def _widest(labels: np.ndarray, value: int) -> tuple[int, int]:
    """x and y of the pixel of a class that is farthest from all others."""
    height, width = labels.shape
    factor = max(1, max(height, width) // _SEARCHED)
    small = resize_label(labels, max(1, height // factor), max(1, width // factor))
    if value not in small:  # a class of few pixels
        small, factor = labels, 1
    depth = distance_transform_edt(np.pad(small == value, 1))[1:-1, 1:-1]
    y, x = np.unravel_index(depth.argmax(), depth.shape)
    return int(x * factor), int(y * factor)


def _write_names(drawn: Image.Image, places: dict[str, tuple[tuple[int, int], Sequence[int]]]) -> None:
    """Write each name in a box of its colour about its place, inside the picture and over no other where possible."""
    draw = ImageDraw.Draw(drawn)
    face = font(max(13, min(drawn.size) // 24))
    line = sum(face.getmetrics()) + 4
    taken: list[tuple[int, int, int, int]] = []
    for name, ((x, y), colour) in places.items():
        width = int(face.getlength(name)) + 8
        left = int(np.clip(x - width // 2, 0, max(0, drawn.width - width)))
        tops = sorted(range(0, max(1, drawn.height - line), line), key=lambda top: abs(top + line // 2 - y))
        free = (top for top in tops if all(_apart((left, top, left + width, top + line), box) for box in taken))
        top = next(free, tops[0])
        taken.append((left, top, left + width, top + line))
        draw.rectangle(taken[-1], fill=tuple(colour))
        dark = np.dot(colour, (0.299, 0.587, 0.114)) < 140
        draw.text((left + 4, top + 2), name, fill=PAPER if dark else INK, font=face)


def _apart(one: tuple[int, int, int, int], other: tuple[int, int, int, int]) -> bool:
    return one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]
