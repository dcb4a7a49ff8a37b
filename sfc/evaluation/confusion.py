"""One int64 confusion matrix and every figure that is read off it."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np

from sfc.data.images import IGNORE
from sfc.errors import UserError


class Confusion:
    """Pixel counts over a stream of images; pickles, and `add` may be called from several threads.

    Attributes:
        matrix: (K, K) int64, rows ground truth, columns prediction, background first.
        images: (K,) int64, number of images whose ground truth shows the class.
        undecided: pixels predicted 255; they are counted as background, as is usual for pseudo-labels.
        per_image: of each image id (3, K) int32, the image's pixels of each class that are right, that are the class
            in the ground truth and in the prediction: all that the IoU of any selection of images needs.
    """

    def __init__(self, num_classes: int):
        self.matrix = np.zeros((num_classes, num_classes), np.int64)
        self.images = np.zeros(num_classes, np.int64)
        self.undecided = 0
        self.per_image: dict[str, np.ndarray] = {}
        self._lock = threading.Lock()

    def add(self, id: str, truth: np.ndarray, prediction: np.ndarray) -> None:
        """Count one image.

        Args:
            id: names it in `per_image` and in errors; parts of an image may be added one by one under its id.
            truth: (H, W) uint8, 0..K-1, or 255 for pixels that are not measured.
            prediction: (H, W) uint8, 0..K-1 or 255.

        Raises:
            UserError: the sizes differ, or either map holds another value (anywhere in the image).
        """
        same_size(id, truth, prediction.shape)
        pairs = np.bincount((truth.astype(np.uint16) << 8 | prediction).ravel(), minlength=1 << 16).reshape(256, 256)
        k = len(self.matrix)
        known_values(pairs.sum(1), k, f"the mask of {id}")
        known_values(pairs.sum(0), k, f"the prediction of {id}")
        counts = pairs[:k, :k].copy()
        undecided = pairs[:k, IGNORE]
        counts[:, 0] += undecided
        image = np.stack((np.diag(counts), counts.sum(1), counts.sum(0))).astype(np.int32)
        with self._lock:
            self.per_image[id] = self.per_image.get(id, 0) + image
            self.matrix += counts
            self.images += counts.sum(1) > 0
            self.undecided += int(undecided.sum())

    def merge(self, other: Confusion) -> None:
        """Count the images that another process has counted, too."""
        for id, image in other.per_image.items():
            self.per_image[id] = self.per_image.get(id, 0) + image
        self.matrix += other.matrix
        self.images += other.images
        self.undecided += other.undecided

    def __getstate__(self) -> dict:
        return {name: value for name, value in self.__dict__.items() if name != "_lock"}

    def __setstate__(self, state: dict) -> None:
        self.__dict__ |= state | {"_lock": threading.Lock()}


def same_size(id: str, truth: np.ndarray, size: tuple[int, ...]) -> None:
    """Raise UserError unless `size` is the mask's (H, W)."""
    if tuple(size) != truth.shape:
        found, wanted = ("x".join(map(str, shape)) for shape in (size, truth.shape))
        raise UserError(f"{id}: the prediction is {found} (height x width) but the mask {wanted}; make it again")


def known_values(counts: np.ndarray, num_classes: int, what: str) -> None:
    """Raise UserError if `counts` (256,) has pixels of a value that is neither a class nor 255."""
    unknown = np.flatnonzero(counts[num_classes:IGNORE]) + num_classes
    if unknown.size:
        raise UserError(
            f"{what} holds the value {unknown[0]}, but labels are 0..{num_classes - 1} or {IGNORE}; "
            "check that it was made for this class list"
        )


@dataclass(frozen=True)
class Scores:
    """Figures of one confusion matrix, all in 0..1, NaN where undefined.

    With TP, FP, FN of a class and its union TP + FP + FN:

    Attributes:
        iou: (K,) TP / union. NaN for a class without a ground truth pixel; its false positives still count against
            the classes they cover.
        false_positive_rate: (K,) FP / union, the over-activated share; NaN as `iou`.
        false_negative_rate: (K,) FN / union, the under-activated share; NaN as `iou`. The three add up to 1, which is
            how the public IRN and SEAM evaluations give them.
        miou: mean of `iou` over the classes that occur in the ground truth, background included.
        pixel_accuracy: share of all measured pixels that are right.
    """

    iou: np.ndarray
    false_positive_rate: np.ndarray
    false_negative_rate: np.ndarray
    miou: float
    pixel_accuracy: float


def scores(matrix: np.ndarray) -> Scores:
    """The figures of a (K, K) confusion matrix."""
    truth, predicted, right = matrix.sum(1), matrix.sum(0), np.diag(matrix)
    covered = union(right, truth, predicted)
    iou = right / covered
    accuracy = right.sum() / truth.sum() if truth.any() else float("nan")
    return Scores(iou, (predicted - right) / covered, (truth - right) / covered, mean_known(iou), float(accuracy))


def union(right: np.ndarray, truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """TP + FP + FN of pixel counts of one shape (..., K), float64; NaN for a class without a ground truth pixel."""
    return np.where(truth > 0, truth + predicted - right, np.nan)


def mean_iou(counts: np.ndarray) -> np.ndarray:
    """(...) mIoU in 0..1 of pixel counts (..., 3, K) as `Confusion.per_image` has them; NaN where no class occurs."""
    iou = counts[..., 0, :] / union(*np.moveaxis(counts, -2, 0))
    known = ~np.isnan(iou)
    total, number = np.where(known, iou, 0).sum(-1), known.sum(-1)
    return np.divide(total, number, out=np.full(total.shape, np.nan), where=number > 0)


def mean_known(values: np.ndarray) -> float:
    """Mean of what is not NaN; NaN if nothing is."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")


def all_background(matrix: np.ndarray) -> np.ndarray:
    """The confusion matrix of the trivial answer on the same pixels: everything is background."""
    trivial = np.zeros_like(matrix)
    trivial[:, 0] = matrix.sum(1)
    return trivial
