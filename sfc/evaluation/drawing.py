"""Pictures of fixed size for contact sheets: photographs, label maps, heat maps, colour legends."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from sfc.data.images import IGNORE, voc_palette
from sfc.evaluation.colours import class_colours

TILE = (224, 168)  # width, height: 4:3, so that photographs fill it
PAPER, INK, FAINT = (255, 255, 255), (30, 30, 30), (225, 225, 225)
# Background and 255 as in PASCAL VOC, whose other colours are hard to tell apart, or to see on the black.
_COLOURS = voc_palette()
_COLOURS[1:IGNORE] = class_colours(IGNORE - 1, ((0, 0, 0), PAPER, tuple(_COLOURS[IGNORE].tolist()), (128, 128, 128)))
# Dark to bright, so that the order of values also shows in grey.
_HEAT = np.array([(20, 20, 90), (110, 30, 140), (215, 60, 80), (250, 150, 40), (255, 240, 120)], np.float64)


def font(size: int) -> ImageFont.FreeTypeFont:
    """Pillow's own font: the same on every machine."""
    return ImageFont.load_default(size)


def label_colours() -> np.ndarray:
    """(256, 3) uint8, the colour of each label-map value in pictures."""
    return _COLOURS


def photograph(image: np.ndarray) -> Image.Image:
    """(H, W, 3) uint8 as a tile."""
    return _fit(image, Image.Resampling.BICUBIC)


def label_picture(labels: np.ndarray) -> Image.Image:
    """(H, W) uint8 label map as a tile in the colours that `legend` names."""
    return _fit(_COLOURS[labels], Image.Resampling.NEAREST)


def heat_picture(image: np.ndarray, heat: np.ndarray) -> Image.Image:
    """As `heat_over`, as a tile."""
    return _fit(heat_over(image, heat), Image.Resampling.BICUBIC)


def heat_over(image: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """(H, W) map in 0..1 over the (H, W, 3) uint8 image in grey: (H, W, 3) uint8."""
    grey = image.mean(2, keepdims=True)
    blended = 0.35 * grey + 0.65 * heat_colours(heat)
    return blended.round().astype(np.uint8)


def heat_colours(heat: np.ndarray) -> np.ndarray:
    """(H, W) values in 0..1 -> (H, W, 3) float64 colours in 0..255."""
    stops = np.linspace(0, 1, len(_HEAT))
    return np.stack([np.interp(heat, stops, channel) for channel in _HEAT.T], axis=-1)


def legend(values: Sequence[int], names: Sequence[str]) -> Image.Image:
    """A tile with a coloured square and a name for each label-map value."""
    tile = Image.new("RGB", TILE, PAPER)
    draw = ImageDraw.Draw(tile)
    rows, line = 8, TILE[1] // 8
    columns = -(-len(values) // rows)
    width = TILE[0] // max(columns, 1)
    for i, (value, name) in enumerate(zip(values, names, strict=True)):
        x, y = i // rows * width + 4, i % rows * line
        draw.rectangle((x, y + 3, x + 14, y + 17), fill=tuple(_COLOURS[value].tolist()), outline=INK)
        draw.text((x + 20, y + 10), shorten(name, width - 26, 13), fill=INK, font=font(13), anchor="lm")
    return tile


def blank(text: str) -> Image.Image:
    """A grey tile that says why there is no picture."""
    tile = Image.new("RGB", TILE, FAINT)
    ImageDraw.Draw(tile).text((TILE[0] / 2, TILE[1] / 2), text, fill=INK, font=font(14), anchor="mm")
    return tile


def shorten(text: str, width: float, size: int) -> str:
    """`text`, cut with dots at its end if it is wider than `width` pixels."""
    face, cut = font(size), text
    while cut and face.getlength(cut if cut == text else cut + "...") > width:
        cut = cut[:-1]
    return cut if cut == text else cut + "..."


def _fit(pixels: np.ndarray, resampling: Image.Resampling) -> Image.Image:
    """Scale into a tile, keeping the shape; what remains is light grey."""
    height, width = pixels.shape[:2]
    scale = min(TILE[0] / width, TILE[1] / height)
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    tile = Image.new("RGB", TILE, FAINT)
    tile.paste(Image.fromarray(pixels).resize(size, resampling), ((TILE[0] - size[0]) // 2, (TILE[1] - size[1]) // 2))
    return tile
