"""Drawn objects and backgrounds of the demo data set.

Eight classes made of shared parts: the wheel of `car` and `bus` is the wheel of `wagon` and `bicycle`, the window of
`car` is that of `house`, and a triangle is a roof, a sail or a tent. So parts alone do not tell the classes apart.
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageDraw

Colour = tuple[int, int, int]
TYRE, RIM, HUB, GLASS, FRAME = (35, 35, 40), (190, 190, 195), (90, 90, 95), (185, 220, 235), (70, 75, 85)


class Pen:
    """Draws parts on a transparent layer in units of the layer's height, x from 0 to `aspect`, y downwards."""

    def __init__(self, rng: np.random.Generator, height: int, aspect: float):
        self.rng = rng
        self.unit = height
        self.layer = Image.new("RGBA", (round(height * aspect), height), (0, 0, 0, 0))
        self._draw = ImageDraw.Draw(self.layer)

    def polygon(self, *points: tuple[float, float], fill: Colour) -> None:
        self._draw.polygon([(x * self.unit, y * self.unit) for x, y in points], fill=(*fill, 255))

    def box(self, x0: float, y0: float, x1: float, y1: float, *, fill: Colour, radius: float = 0.0) -> None:
        corners = [x0 * self.unit, y0 * self.unit, x1 * self.unit, y1 * self.unit]
        self._draw.rounded_rectangle(corners, radius * self.unit, fill=(*fill, 255))

    def disc(self, x: float, y: float, r: float, *, fill: Colour) -> None:
        corners = [(x - r) * self.unit, (y - r) * self.unit, (x + r) * self.unit, (y + r) * self.unit]
        self._draw.ellipse(corners, fill=(*fill, 255))

    def bar(self, x0: float, y0: float, x1: float, y1: float, *, width: float, fill: Colour) -> None:
        ends = [x0 * self.unit, y0 * self.unit, x1 * self.unit, y1 * self.unit]
        self._draw.line(ends, fill=(*fill, 255), width=round(width * self.unit))

    def wheel(self, x: float, y: float, r: float) -> None:
        for part, fill in ((1.0, TYRE), (0.62, RIM), (0.22, HUB)):
            self.disc(x, y, r * part, fill=fill)

    def window(self, x0: float, y0: float, x1: float, y1: float) -> None:
        self.box(x0, y0, x1, y1, fill=FRAME)
        edge = 0.12 * min(x1 - x0, y1 - y0)
        self.box(x0 + edge, y0 + edge, x1 - edge, y1 - edge, fill=GLASS)

    def paint(self, hue: float, saturation: float = 0.75, value: float = 0.8) -> Colour:
        """A colour near a hue (degrees) that varies from object to object."""
        hue = (hue + self.rng.normal(0, 12)) % 360 / 360
        saturation = np.clip(saturation + self.rng.uniform(-0.12, 0.12), 0, 1)
        value = np.clip(value + self.rng.uniform(-0.12, 0.12), 0, 1)
        return tuple(round(255 * c) for c in colorsys.hsv_to_rgb(hue, saturation, value))


def _car(pen: Pen) -> None:
    body = pen.paint(pen.rng.choice([0, 355, 340]))
    pen.polygon((0.4, 0.5), (0.6, 0.12), (1.3, 0.12), (1.55, 0.5), fill=body)
    pen.window(0.62, 0.2, 0.92, 0.46)
    pen.window(1.0, 0.2, 1.28, 0.46)
    pen.box(0.05, 0.44, 1.85, 0.8, fill=body, radius=0.12)
    pen.box(1.74, 0.52, 1.85, 0.6, fill=(250, 235, 150))
    pen.wheel(0.45, 0.79, 0.2)
    pen.wheel(1.45, 0.79, 0.2)


def _house(pen: Pen) -> None:
    wall, roof = pen.paint(42, 0.35, 0.85), pen.paint(15, 0.65, 0.5)
    pen.box(0.12, 0.42, 0.98, 0.98, fill=wall)
    pen.polygon((0.02, 0.45), (0.55, 0.03), (1.08, 0.45), fill=roof)
    pen.window(0.2, 0.52, 0.44, 0.74)
    pen.window(0.68, 0.52, 0.92, 0.74)
    pen.box(0.47, 0.64, 0.64, 0.98, fill=roof)


def _tree(pen: Pen) -> None:
    crown = pen.paint(pen.rng.choice([105, 125, 85]), 0.7, 0.55)
    pen.box(0.32, 0.55, 0.48, 0.99, fill=pen.paint(25, 0.6, 0.35))
    for x, y, r in ((0.4, 0.24, 0.22), (0.22, 0.38, 0.2), (0.58, 0.38, 0.2), (0.4, 0.46, 0.22)):
        pen.disc(x, y, r, fill=crown)


def _bus(pen: Pen) -> None:
    body = pen.paint(48, 0.85, 0.95)
    pen.box(0.03, 0.1, 1.87, 0.84, fill=body, radius=0.07)
    for left in (0.12, 0.46, 0.8, 1.14, 1.48):
        pen.window(left, 0.2, left + 0.28, 0.48)
    pen.box(0.03, 0.58, 1.87, 0.66, fill=pen.paint(48, 0.85, 0.55))
    pen.wheel(0.42, 0.83, 0.15)
    pen.wheel(1.45, 0.83, 0.15)


def _boat(pen: Pen) -> None:
    pen.box(0.52, 0.04, 0.57, 0.72, fill=(110, 75, 45))
    pen.polygon((0.6, 0.06), (0.6, 0.64), (1.12, 0.64), fill=pen.paint(200, 0.12, 0.95))
    pen.polygon((0.49, 0.16), (0.49, 0.64), (0.12, 0.64), fill=pen.paint(200, 0.2, 0.85))
    pen.polygon((0.02, 0.7), (1.18, 0.7), (0.98, 0.96), (0.22, 0.96), fill=pen.paint(220, 0.8, 0.7))


def _tent(pen: Pen) -> None:
    cloth = pen.paint(pen.rng.choice([280, 300]), 0.6, 0.75)
    pen.polygon((0.03, 0.95), (0.68, 0.08), (1.33, 0.95), fill=cloth)
    pen.polygon((0.47, 0.95), (0.68, 0.4), (0.89, 0.95), fill=tuple(c // 3 for c in cloth))


def _wagon(pen: Pen) -> None:
    wood = pen.paint(28, 0.6, 0.6)
    pen.polygon((0.1, 0.2), (1.4, 0.2), (1.28, 0.68), (0.22, 0.68), fill=wood)
    for x in (0.4, 0.65, 0.9, 1.15):
        pen.box(x, 0.2, x + 0.03, 0.68, fill=tuple(c // 2 for c in wood))
    pen.box(1.3, 0.6, 1.78, 0.67, fill=tuple(c // 2 for c in wood))
    pen.wheel(0.42, 0.75, 0.23)
    pen.wheel(1.08, 0.75, 0.23)


def _bicycle(pen: Pen) -> None:
    tube = pen.paint(170, 0.85, 0.75)
    pen.wheel(0.33, 0.66, 0.31)
    pen.wheel(1.27, 0.66, 0.31)
    for line in ((0.33, 0.66, 0.6, 0.28), (0.6, 0.28, 1.1, 0.28), (0.75, 0.68, 1.1, 0.28), (0.33, 0.66, 0.75, 0.68)):
        pen.bar(*line, width=0.09, fill=tube)
    pen.bar(0.56, 0.16, 0.75, 0.68, width=0.09, fill=tube)
    pen.bar(1.05, 0.12, 1.27, 0.66, width=0.09, fill=tube)
    pen.box(0.42, 0.1, 0.72, 0.19, fill=(40, 30, 30), radius=0.04)
    pen.box(0.92, 0.07, 1.14, 0.16, fill=(40, 30, 30), radius=0.04)


# Name, how to draw it, width over height, and height of a car of the same scene; from head to tail.
OBJECTS: tuple[tuple[str, Callable[[Pen], None], float, float], ...] = (
    ("car", _car, 1.9, 1.0),
    ("house", _house, 1.1, 1.55),
    ("tree", _tree, 0.8, 1.8),
    ("bus", _bus, 1.9, 1.15),
    ("boat", _boat, 1.2, 1.5),
    ("tent", _tent, 1.36, 1.25),
    ("wagon", _wagon, 1.8, 1.05),
    ("bicycle", _bicycle, 1.6, 1.15),
)
CLASSES = tuple(name for name, *_ in OBJECTS)


def draw_object(rng: np.random.Generator, kind: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """One object of class `kind`, see `painted`."""
    _, draw, aspect, _ = OBJECTS[kind]
    return painted(rng, draw, aspect, height)


def painted(
    rng: np.random.Generator, draw: Callable[[Pen], None], aspect: float, height: int
) -> tuple[np.ndarray, np.ndarray]:
    """What `draw` puts on a layer of this height, mirrored half of the time, under changing light.

    Returns:
        (height, w, 3) uint8 colours and (height, w) bool, true on the object.
    """
    pen = Pen(rng, height, aspect)
    draw(pen)
    pixels = np.asarray(pen.layer)
    if rng.random() < 0.5:
        pixels = pixels[:, ::-1]
    light = np.linspace(1.12, 0.85, height)[:, None] + smooth_noise(rng, pixels.shape[:2], cells=6, amplitude=0.08)
    colours = np.clip(pixels[..., :3] * light[..., None], 0, 255).astype(np.uint8)
    return colours, pixels[..., 3] > 0


def draw_background(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """(height, width, 3) uint8: a muted, mottled ground and sky with pebbles, the same for every class."""
    split = rng.uniform(0.3, 0.8)
    shade = 1 / (1 + np.exp(-(np.linspace(0, 1, height) - split) / rng.uniform(0.01, 0.3)))[:, None, None]
    above, below = (_muted(rng) for _ in range(2))
    ground = above * (1 - shade) + below * shade
    picture = np.broadcast_to(ground, (height, width, 3)).astype(np.uint8)
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    for _ in range(rng.integers(4, 12)):
        x, y, r = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(0.02, 0.07) * height
        draw.ellipse([x - 1.4 * r, y - r, x + 1.4 * r, y + r], fill=tuple(int(c) for c in _muted(rng)))
    mottle = sum(smooth_noise(rng, (height, width), cells=c, amplitude=a) for c, a in ((4, 0.1), (24, 0.07)))
    return np.clip(np.asarray(image) * (1 + mottle[..., None]), 0, 255).astype(np.uint8)


def smooth_noise(rng: np.random.Generator, shape: Sequence[int], *, cells: int, amplitude: float) -> np.ndarray:
    """(H, W) float noise around 0, with about `cells` blotches along a side."""
    coarse = Image.fromarray(rng.normal(0, amplitude, (cells, cells)).astype(np.float32))
    return np.asarray(coarse.resize((shape[1], shape[0]), Image.Resampling.BICUBIC))


def _muted(rng: np.random.Generator) -> np.ndarray:
    return np.array(colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.05, 0.25), rng.uniform(0.35, 0.85))) * 255
