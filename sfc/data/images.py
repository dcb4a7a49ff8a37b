"""Images and masks: decoded whole, batched by size, resized, and normalised on the device."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import ExifTags, Image, UnidentifiedImageError
from torch import Tensor

from sfc.data.manifest import Record
from sfc.errors import UserError

_MAX_16_BIT = 65535
_MOST = 1 << 30  # bytes of a file: the most pixels that Pillow decodes, uncompressed
_PIXELS = 640 * 640  # an image that counts as one: none of VOC or COCO is larger
_FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP")  # Pillow has many more; for EPS it would run Ghostscript
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
IGNORE = 255  # label value that is neither background nor a class


def read_image(path: Path | str) -> np.ndarray:
    """The file at `path` as `decode_image`; raises UserError as there and as `read_content`."""
    return decode_image(path, read_content(path))


def read_content(path: Path | str) -> bytes:
    """The bytes of an image file; raises UserError if it is missing, no file, above `_MOST`, or cannot be read."""
    try:
        found = os.stat(path)
        if stat.S_ISREG(found.st_mode):
            if found.st_size > _MOST:
                raise UserError(f"{path}: {found.st_size:,} bytes, which no image here has; replace the file")
            return Path(path).read_bytes()
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:  # the latter: a name with a null character
        raise UserError(f"{path}: cannot be read ({getattr(error, 'strerror', error)}); replace the file") from None
    raise UserError(f"{path}: a folder, pipe or device; put an image file there")  # a pipe would wait for a writer


def decode_image(path: Path | str, content: bytes) -> np.ndarray:
    """Decode JPEG, PNG, BMP, TIFF or WebP to (H, W, 3) uint8 RGB, whatever the file holds.

    Grey, palette and CMYK are converted; 16-bit grey is scaled, 0..65535 to 0..255; transparent pixels are laid on
    white, as viewers show them. An EXIF rotation tag is not applied: masks, annotations and published results of the
    data sets belong to the pixels as they are stored, and a mask has no tag to follow. (In TIFF files orientation is
    part of how pixels are stored: there Pillow applies it.)

    Args:
        path: named in errors.
        content: all bytes of the file.

    Raises:
        UserError: the file is broken or of another format, has too many pixels, or values whose range it does not tell
            (floating point, or integers beyond 16 bits).
    """
    image = _decoded(path, content)
    if image.mode in ("F", "I") or image.mode.startswith("I;16"):
        return _from_16_bit(path, image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.asarray(image.convert("RGB"))


def image_size(path: Path | str) -> tuple[int, int]:
    """Height and width that `read_image` would give, from the file's header; UserError where that is broken."""
    with _opened(path, read_content(path)) as image:
        if image.format == "TIFF":
            image.load()  # which applies the orientation
        width, height = image.size
        return height, width


def read_record(record: Record) -> np.ndarray:
    """The image of a record, (H, W, 3) uint8; raises UserError if it has changed its size or does not decode."""
    image = read_image(record.image)
    if image.shape[:2] != (record.height, record.width):
        raise UserError(
            f"{record.image}: {image.shape[0]} x {image.shape[1]} pixels, but the manifest says "
            f"{record.height} x {record.width}; run the stage prepare again"
        )
    return image


def equal_sizes(records: Iterable[Record], batch_size: int) -> list[list[Record]]:
    """Batches of at most `batch_size` images of one size, sizes in the order of their first image.

    Images of one size also have one size at every scale, so each is decoded once. Of images above 640 x 640 pixels a
    batch holds fewer, down to one: as many pixels as `batch_size` images of that size.
    """
    groups: dict[tuple[int, int], list[Record]] = {}
    for record in records:
        groups.setdefault((record.height, record.width), []).append(record)
    batches = []
    for (height, width), group in groups.items():
        most = max(1, min(batch_size, batch_size * _PIXELS // (height * width)))
        batches += [group[i : i + most] for i in range(0, len(group), most)]
    return batches


def has_rotation_tag(path: Path | str, content: bytes) -> bool:
    """True if EXIF data ask viewers to rotate or mirror what `decode_image` gives; arguments and UserError as there."""
    with _opened(path, content) as image:
        if image.format == "TIFF":
            return False
        try:
            return image.getexif().get(ExifTags.Base.Orientation, 1) not in (0, 1)  # 0: some cameras' "unknown"
        except Exception:  # damaged EXIF data can break Pillow's parser anywhere, and are no fault of the pixels
            return False


def read_mask(path: Path | str) -> np.ndarray:
    """Decode a palette or grey PNG to its (H, W) uint8 label values; raises UserError as `read_image`."""
    image = _decoded(path, read_content(path))
    if image.mode not in ("P", "L"):
        raise UserError(
            f"{path}: a mask must be a palette or 8-bit grey image whose values are classes, this one is of mode "
            f"{image.mode}; save it as such a PNG"
        )
    return np.asarray(image)


def shown_classes(label: np.ndarray) -> tuple[int, ...]:
    """The 0-based classes in a label map (H, W) uint8, sorted."""
    return tuple(int(value) - 1 for value in np.unique(label) if value not in (0, IGNORE))


def _from_16_bit(path: Path | str, image: Image.Image) -> np.ndarray:
    values = np.asarray(image)
    if image.mode == "F" or values.min() < 0 or values.max() > _MAX_16_BIT:
        raise UserError(f"{path}: pixel values of unknown range (mode {image.mode}); save it with 8 bits a channel")
    grey = np.round(values / (_MAX_16_BIT / 255)).astype(np.uint8)
    return np.repeat(grey[:, :, None], 3, axis=2)


def _decoded(path: Path | str, content: bytes) -> Image.Image:
    with _opened(path, content) as image:
        image.load()
        return image


@contextmanager
def _opened(path: Path | str, content: bytes) -> Iterator[Image.Image]:
    """An image whose header was read; every fault on the way becomes a UserError."""
    try:
        with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
            yield image
    except UnidentifiedImageError:  # its text would name an address in memory
        known = f"{', '.join(_FORMATS[:-1])} or {_FORMATS[-1]}"
        raise UserError(f"{path}: does not decode (no {known} file); replace the file") from None
    except Image.DecompressionBombError as error:
        raise UserError(f"{path}: too large to be decoded ({error}); make the image smaller") from None
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(f"{path}: does not decode ({error}); replace the file") from None


def scaled_size(shape: Sequence[int], scale: float) -> tuple[int, int]:
    """Height and width times `scale`, rounded, at least 1."""
    return max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale))


def resize_image(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """(H, W, 3) uint8 -> (height, width, 3) uint8, bicubic with antialiasing (PIL)."""
    return _resize(image, height, width, Image.Resampling.BICUBIC)


def resize_label(label: np.ndarray, height: int, width: int) -> np.ndarray:
    """(H, W) uint8 -> (height, width) uint8, nearest pixel centre (PIL)."""
    return _resize(label, height, width, Image.Resampling.NEAREST)


def resize_labels(labels: Tensor, size: Sequence[int]) -> Tensor:
    """Label maps (B, H, W) uint8 to (B, *size) on their device, nearest pixel centre; as `resize_label` of each."""
    return F.interpolate(labels[:, None], size=tuple(size), mode="nearest-exact")[:, 0]


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
    size = images.shape[-2:]
    return torch.where(box_masks(boxes, canvas=size, size=size)[:, None], scaled, 0.0)


def box_masks(boxes: Tensor, *, canvas: Sequence[int], size: Sequence[int]) -> Tensor:
    """Where canvases hold an image.

    Args:
        boxes: (B, 4) int: top, left, bottom, right of the image in its canvas, in pixels.
        canvas, size: (H, W) of the canvas and of the mask; a cell of a smaller mask is inside when its first pixel
            is, which is what nearest resizing of a mask of the canvas's size gives.

    Returns:
        (B, *size) bool, true inside the box.
    """
    top, left, bottom, right = boxes[:, :, None].unbind(1)
    y, x = (torch.arange(cells, device=boxes.device) * side // cells for cells, side in zip(size, canvas, strict=True))
    return ((y >= top) & (y < bottom))[:, :, None] & ((x >= left) & (x < right))[:, None, :]


def voc_palette() -> np.ndarray:
    """(256, 3) uint8, VOC's colours: bit 3 i + c of a label is bit 7 - i of channel c."""
    bits = np.arange(256)[:, None] >> np.arange(24) & 1
    return np.packbits(bits.reshape(256, 8, 3), axis=1)[:, 0]


_PALETTE = voc_palette()


def class_palette(classes: Sequence[str]) -> tuple[tuple[int, int, int], ...]:
    """VOC's R, G, B of the background and of each class."""
    return tuple((r, g, b) for r, g, b in _PALETTE[: 1 + len(classes)].tolist())


def palette_png(label: np.ndarray, *, palette: Sequence[tuple[int, int, int]] = (), optimize: bool = False) -> bytes:
    """A label map (H, W) uint8 as a PNG file; `optimize`: smaller, and slower to write.

    Args:
        palette: R, G, B of the first label values; the others have VOC's colours.
    """
    colours = _PALETTE.copy()
    colours[: len(palette)] = np.reshape(palette, (-1, 3))
    image = Image.fromarray(label)
    image.putpalette(colours.tobytes())
    png = io.BytesIO()
    image.save(png, format="PNG", optimize=optimize)
    return png.getvalue()
