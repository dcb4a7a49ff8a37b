"""Training samples: resize, flip and crop into a canvas, as the public implementation does.

The datasets are indexed by (index, epoch): every random choice comes from a generator of (seed, epoch, index), so
a sample does not depend on who asks for it or when.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from sfc.data.images import IGNORE, read_image, resize_image, resize_label, scaled_size
from sfc.data.manifest import Record, label_matrix
from sfc.randomness import generator

_HUES = 180  # the unit of `hue`: a full turn, as in OpenCV, whose numbers public recipes give


class ImageCrops(Dataset):
    """Crops with their image-level label, for the CAM network.

    The long side is resized to a whole number drawn from `long_side` (both ends included; bicubic), the image is
    flipped with probability 1/2, then cropped at random to `crop`; along an axis where it is smaller than `crop`
    it lies at a random offset in the canvas.

    Sample:
        image: (3, crop, crop) uint8 RGB, 0 outside the box.
        box: (4,) int64: top, left, bottom, right of the image in the canvas.
        label: (num_classes,) float32, 0 or 1.
        index: () int64, position in `records`.
    """

    def __init__(
        self, records: Sequence[Record], num_classes: int, *, crop: int, long_side: tuple[int, int], seed: int
    ):
        self.records = list(records)
        self.num_classes = num_classes
        self.crop = crop
        self.long_side = long_side
        self.seed = seed

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Tensor]:
        index, epoch = key
        rng = generator(self.seed, "image crop", epoch, index)
        record = self.records[index]
        image = read_image(record.image)
        long_side = int(rng.integers(self.long_side[0], self.long_side[1] + 1))
        image = resize_image(image, *scaled_size(image.shape, long_side / max(image.shape[:2])))
        if rng.random() < 0.5:
            image = image[:, ::-1]
        window = Window(rng, image.shape, self.crop)
        return {
            "image": _chw(window.cut(image, 0)),
            "box": torch.tensor(window.box),
            "label": torch.from_numpy(label_matrix([record], self.num_classes)[0]),
            "index": torch.tensor(index),
        }


class LabelledCrops(Dataset):
    """Crops with a label map, for IRN's network and for segmentation.

    Args:
        read_label: the (H, W) uint8 label map of a record, of its image's size.
        rescale: the factors an image is resized by (bicubic; its label map nearest): a number drawn between the
            two of `rescale` if `uniform`, else one of `rescale`.
        image_scale: a further fixed factor, for training on smaller images than the files hold.
        hsv_jitter: largest shift of hue, saturation and value, see `shift_hsv`; each is a whole number drawn from
            -hsv_jitter to hsv_jitter.

    Sample:
        image: (3, crop, crop) uint8 RGB, 0 outside the box.
        box: (4,) int64: top, left, bottom, right of the image in the canvas.
        mask: (crop, crop) uint8, 255 outside the box.
    """

    def __init__(
        self,
        records: Sequence[Record],
        read_label: Callable[[Record], np.ndarray],
        *,
        crop: int,
        rescale: Sequence[float],
        uniform: bool,
        image_scale: float,
        hsv_jitter: int,
        seed: int,
    ):
        self.records = list(records)
        self.hsv_jitter = hsv_jitter
        self.read_label = read_label
        self.crop = crop
        self.rescale = tuple(rescale)
        self.uniform = uniform
        self.image_scale = image_scale
        self.seed = seed

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Tensor]:
        index, epoch = key
        rng = generator(self.seed, "labelled crop", epoch, index)
        record = self.records[index]
        image, label = read_image(record.image), self.read_label(record)
        factor = rng.uniform(*self.rescale) if self.uniform else rng.choice(self.rescale)
        size = scaled_size(image.shape, float(factor) * self.image_scale)
        image, label = resize_image(image, *size), resize_label(label, *size)
        if rng.random() < 0.5:
            image, label = image[:, ::-1], label[:, ::-1]
        window = Window(rng, image.shape, self.crop)
        if self.hsv_jitter:
            image = shift_hsv(image, *rng.integers(-self.hsv_jitter, self.hsv_jitter + 1, size=3).tolist())
        return {
            "image": _chw(window.cut(image, 0)),
            "box": torch.tensor(window.box),
            "mask": torch.from_numpy(window.cut(label, IGNORE)),
        }


class Window:
    """Where an image lies in a square canvas of side `crop`: a random cut of it, or a random place for it.

    Attributes:
        box: top, left, bottom, right of the image in the canvas.
    """

    def __init__(self, rng: np.random.Generator, shape: Sequence[int], crop: int):
        self.crop = crop
        # rows, then columns: (start in the image, start in the canvas, length)
        self._spans = [self._span(rng, size) for size in shape[:2]]
        (_, top, height), (_, left, width) = self._spans
        self.box = (top, left, top + height, left + width)

    def _span(self, rng: np.random.Generator, size: int) -> tuple[int, int, int]:
        offset = int(rng.integers(abs(size - self.crop) + 1))
        return (offset, 0, self.crop) if size > self.crop else (0, offset, size)

    def cut(self, array: np.ndarray, fill: int) -> np.ndarray:
        """(H, W, ...) uint8 -> (crop, crop, ...) uint8, `fill` outside the box."""
        canvas = np.full((self.crop, self.crop, *array.shape[2:]), fill, np.uint8)
        (y, _, height), (x, _, width) = self._spans
        top, left, bottom, right = self.box
        canvas[top:bottom, left:right] = array[y : y + height, x : x + width]
        return canvas


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


def _chw(image: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
