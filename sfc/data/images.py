"""Decoding of images and masks, and their normalisation on the device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import ExifTags, Image, UnidentifiedImageError
from torch import Tensor

from sfc.errors import UserError

_MAX_16_BIT = 65535
IGNORE = 255  # label value that is neither background nor a class


def read_image(path: Path | str) -> np.ndarray:
    """Decode to (H, W, 3) uint8 RGB, whatever the file holds.

    Grey, palette and CMYK are converted; 16-bit grey is scaled, 0..65535 to 0..255; transparent pixels are laid on
    white, as viewers show them. An EXIF rotation tag is not applied: masks, annotations and published results of the
    data sets belong to the pixels as they are stored, and a mask has no tag to follow. (In TIFF files orientation is
    part of how pixels are stored: there Pillow applies it.)

    Raises:
        UserError: the file is missing or broken, has too many pixels, or values whose range it does not tell
            (floating point, or integers beyond 16 bits).
    """
    image = _open(path)
    if image.mode in ("F", "I") or image.mode.startswith("I;16"):
        return _from_16_bit(path, image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.asarray(image.convert("RGB"))


def has_rotation_tag(path: Path | str) -> bool:
    """True if EXIF data ask viewers to rotate or mirror the image `read_image` gives; UserError as there."""
    with _opened(path) as image:
        if image.format == "TIFF":
            return False
        try:
            return image.getexif().get(ExifTags.Base.Orientation, 1) not in (0, 1)  # 0: some cameras' "unknown"
        except Exception:  # damaged EXIF data can break Pillow's parser anywhere, and are no fault of the pixels
            return False


def read_mask(path: Path | str) -> np.ndarray:
    """Decode a palette or grey PNG to its (H, W) uint8 label values; raises UserError as `read_image`."""
    image = _open(path)
    if image.mode not in ("P", "L"):
        raise UserError(
            f"{path}: a mask must be a palette or 8-bit grey image whose values are classes, this one is of mode "
            f"{image.mode}; save it as such a PNG"
        )
    return np.asarray(image)


def _from_16_bit(path: Path | str, image: Image.Image) -> np.ndarray:
    values = np.asarray(image)
    if image.mode == "F" or values.min() < 0 or values.max() > _MAX_16_BIT:
        raise UserError(f"{path}: pixel values of unknown range (mode {image.mode}); save it with 8 bits a channel")
    grey = np.round(values / (_MAX_16_BIT / 255)).astype(np.uint8)
    return np.repeat(grey[:, :, None], 3, axis=2)


def _open(path: Path | str) -> Image.Image:
    with _opened(path) as image:
        image.load()
        return image


@contextmanager
def _opened(path: Path | str) -> Iterator[Image.Image]:
    """An image file whose header was read; every fault on the way becomes a UserError."""
    try:
        with Image.open(path) as image:
            yield image
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except Image.DecompressionBombError as error:
        raise UserError(f"{path}: too large to be decoded ({error}); make the image smaller") from None
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise UserError(f"{path}: does not decode ({error}); replace the file") from None


def resize_image(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """(H, W, 3) uint8 -> (height, width, 3) uint8, bicubic with antialiasing (PIL)."""
    return _resize(image, height, width, Image.Resampling.BICUBIC)


def resize_label(label: np.ndarray, height: int, width: int) -> np.ndarray:
    """(H, W) uint8 -> (height, width) uint8, nearest neighbour (PIL)."""
    return _resize(label, height, width, Image.Resampling.NEAREST)


def _resize(array: np.ndarray, height: int, width: int, filter: Image.Resampling) -> np.ndarray:
    if array.shape[:2] == (height, width):
        return array
    return np.asarray(Image.fromarray(array).resize((width, height), filter))


def normalise(images: Tensor, boxes: Tensor | None, *, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Scale by a network's mean and standard deviation, on the device of `images`.

    Args:
        images: (B, 3, H, W) uint8 RGB.
        boxes: (B, 4) int: top, left, bottom, right of the image in its canvas; None if it fills it.
        mean, std: of R, G and B in 0..1, as a trunk has them, see `sfc.backbone.Trunk`.

    Returns:
        (B, 3, H, W) float32, 0 outside the box (the padding is the mean colour, not black).
    """
    mean = images.new_tensor(mean, dtype=torch.float32).view(3, 1, 1) * 255
    std = images.new_tensor(std, dtype=torch.float32).view(3, 1, 1) * 255
    scaled = (images.float() - mean) / std
    if boxes is None:
        return scaled
    return torch.where(box_masks(boxes, *images.shape[-2:])[:, None], scaled, 0.0)


def box_masks(boxes: Tensor, height: int, width: int) -> Tensor:
    """(B, 4) top, left, bottom, right -> (B, height, width) bool, true inside the box."""
    top, left, bottom, right = boxes[:, :, None].unbind(1)
    y = torch.arange(height, device=boxes.device)
    x = torch.arange(width, device=boxes.device)
    return ((y >= top) & (y < bottom))[:, :, None] & ((x >= left) & (x < right))[:, None, :]


def voc_palette() -> np.ndarray:
    """(256, 3) uint8, VOC's colours: bit 3 i + c of a label is bit 7 - i of channel c."""
    bits = np.arange(256)[:, None] >> np.arange(24) & 1
    return np.packbits(bits.reshape(256, 8, 3), axis=1)[:, 0]
