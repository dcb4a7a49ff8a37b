"""Shifts of hue, saturation and value, for training."""

from __future__ import annotations

import numpy as np
from PIL import Image

_HUES = 180  # the unit of `hue`: a full turn, as in OpenCV, whose numbers public recipes give


def shift_hsv(image: np.ndarray, hue: int, saturation: int, value: int) -> np.ndarray:
    """(H, W, 3) uint8 RGB to the same with its colours shifted.

    Args:
        hue: of 180, which is a full turn.
        saturation, value: of 255; they stop at 0 and 255.
    """
    hsv = np.asarray(Image.fromarray(np.ascontiguousarray(image)).convert("HSV")).astype(np.int16)
    hsv[..., 0] = (hsv[..., 0] + round(hue * 256 / _HUES)) % 256
    hsv[..., 1:] = np.clip(hsv[..., 1:] + np.array([saturation, value], np.int16), 0, 255)
    bands = [Image.fromarray(band) for band in np.moveaxis(hsv.astype(np.uint8), 2, 0)]
    return np.asarray(Image.merge("HSV", bands).convert("RGB"))
