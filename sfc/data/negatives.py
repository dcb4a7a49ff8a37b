"""Training images that show none of the classes, negatives: how many are in a batch, and when there must be some."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sfc.errors import UserError


@dataclass(frozen=True)
class BatchMix:
    """What the batches of a training are made of, see `batch_mix`.

    Attributes:
        images: (N,) int64, the positions that an epoch is one pass over.
        negatives: (M,) int64, positions that a fixed part of every batch is drawn from; empty without such a part.
        batch_size: of the global batch.
        negatives_each: size of that part; 0 exactly where `negatives` is empty.
        section: of params, named in errors.
    """

    images: np.ndarray
    negatives: np.ndarray
    batch_size: int
    negatives_each: int
    section: str

    @property
    def images_each(self) -> int:
        """How many of `images` are in a batch."""
        return self.batch_size - self.negatives_each

    @property
    def used(self) -> np.ndarray:
        """(N + M,) int64, sorted: all positions that are trained on."""
        return np.sort(np.concatenate([self.images, self.negatives]))

    @property
    def described(self) -> str:
        """A batch in words."""
        return f"{self.batch_size} images" + f" ({self.negatives_each} of them negatives)" * bool(self.negatives_each)

    def steps_per_epoch(self) -> int:
        """Whole batches in one pass over `images`; raises UserError if there is none."""
        if len(self.images) >= self.images_each:
            return len(self.images) // self.images_each
        if self.negatives_each:
            raise UserError(
                f"{len(self.images)} training images that show a class are fewer than the {self.images_each} of a "
                f"batch; lower {self.section}.batch_size or raise {self.section}.negative_share"
            )
        raise UserError(
            f"{len(self.images)} training images are fewer than one batch of {self.batch_size}; "
            f"lower {self.section}.batch_size"
        )


def batch_mix(labels: np.ndarray, batch_size: int, share: float | None, *, section: str) -> BatchMix:
    """Which training images share a batch.

    Args:
        labels: (N, C), 1 where an image shows a class, else 0; a row of zeros is a negative.
        share: of negatives in every batch, to the nearest whole image. An epoch is then a pass over the other images,
            and the negatives take turns through the whole training. 0: none. None: all images are drawn alike, so
            that negatives are as frequent as in the data set.
        section: of params, named in errors.

    Raises:
        UserError: a share of negatives is asked for, and there is none.
    """
    shows = np.asarray(labels).astype(bool).any(axis=1)
    everything, none = np.arange(len(shows)), np.empty(0, np.int64)
    if share is None:
        return BatchMix(everything, none, batch_size, 0, section)
    each, negatives = round(share * batch_size), everything[~shows]
    if each and not len(negatives):
        raise UserError(
            f"{section}.negative_share: {share}, but all {len(shows):,} training images show a class; set it to null, "
            "or have others, which dataset.negatives: true keeps"
        )
    return BatchMix(everything[shows], negatives if each else none, batch_size, each, section)


def check_told_apart(labels: np.ndarray, classes: Sequence[str], *, advice: str) -> None:
    """Raise UserError, which ends with `advice`, if all training images show the same classes.

    A classifier then scores best by answering the same for every image, wherever it looks, and its activation maps
    show nothing. The usual case is a single class and no image without it.

    Args:
        labels: (N, C), 1 where an image shows a class, else 0.
        classes: the C names.
    """
    if not len(labels) or (labels != labels[0]).any():
        return
    shown = [name for name, there in zip(classes, labels[0], strict=True) if there]
    what = f"the one class, {shown[0]}" if len(classes) == 1 else f"the same classes, {', '.join(shown)}"
    raise UserError(
        f"all {len(labels):,} training images show {what}; only images without them could teach where they are: "
        f"{advice}"
    )
