"""The distribution coefficient (DC, paper Eq. 6): how much each class's consistency losses count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from sfc.calibration.image_bank import ImageBank
from sfc.data.negatives import batch_mix
from sfc.errors import UserError
from sfc.randomness import generator


@dataclass(frozen=True)
class LabelStats:
    """One value a class, arrays of shape (C,).

    Attributes:
        n: int64, training images that show the class.
        demand: int64, total demand: sum of |n_c - n_i| over the classes i.
        n_extra: float64, N: images of the class that the image bank adds in an epoch.
        dc: float64, the distribution coefficient.
    """

    n: np.ndarray
    demand: np.ndarray
    n_extra: np.ndarray
    dc: np.ndarray


def label_stats(labels: np.ndarray, *, draws: int, c_ibr: float, n_iter: int, norm: str) -> LabelStats:
    """Counts, total demand, N and DC of every class (Eq. 6).

    With |C| classes, N = draws * c_ibr * n_iter / |C|, and

        demand_c = sum_i |n_c - n_i|      eq6_c = (demand_c / mean demand) / (n_c + N)

    Norm "eq6" is this number as printed. It is about 1/1000, which all but removes the losses it weighs, so norm
    "mean" divides it by its mean over the classes; the public implementation does the same. Norm "instances" divides
    it by its mean over the label instances, sum_c n_c eq6_c / sum_c n_c, because a batch shows instances, not classes:
    what DC multiplies in training is weighed by how often each class is there. On VOC it makes next to no difference,
    the released DC has an instance mean of 1.07. On a longer tail the few classes that fill the batches have small DC
    (0.64 an instance on 213 to 10 images a class), and "mean" takes that part of the losses away.

    Cases the equation leaves open:
    - All classes equally frequent, or only one class: every demand is 0 and its ratio to the mean is 0/0. Nothing
      asks for one class to count more than another, so the ratio is 1 for all: DC is 1 with norm "mean", and
      1 / (n + N) with "eq6".
    - A class without a training image: no loss ever sees it and the bank never holds it, so it takes no part. Its
      demand, N and DC are 0, and the other classes get what they would get if it were not listed. Counted in, its
      gap to every class would shift the others' weights for nothing.

    Args:
        labels: (N, C), 1 where the image shows the class, else 0.
        draws: images drawn from the bank in a step, N_IBR; 0 without a bank.
        c_ibr: classes in an image drawn, C_IBR.
        n_iter: steps in an epoch.
        norm: "mean", "instances" or "eq6".

    Raises:
        UserError: no image shows any class.
    """
    n = np.asarray(labels).astype(bool).sum(axis=0).astype(np.int64)
    seen = n > 0
    if not seen.any():
        raise UserError("no training image has a label, so there is nothing to count; see dataset.labels")
    demand, n_extra, dc = np.zeros_like(n), np.zeros(len(n)), np.zeros(len(n))
    demand[seen] = np.abs(n[seen, None] - n[None, seen]).sum(axis=1)
    n_extra[seen] = draws * c_ibr * n_iter / seen.sum()
    mean = demand[seen].mean()
    relative = demand[seen] / mean if mean > 0 else 1.0
    dc[seen] = relative / (n + n_extra)[seen]
    if norm == "mean":
        dc[seen] /= dc[seen].mean()
    elif norm == "instances":
        dc[seen] /= np.average(dc[seen], weights=n[seen])
    return LabelStats(n, demand, n_extra, dc)


def classes_per_image(labels: np.ndarray) -> float:
    """Mean number of classes in an image of the (N, C) label matrix: C_IBR as the paper defines it.

    Images without a class are left out, as the bank never holds one.
    """
    each = np.asarray(labels).astype(bool).sum(axis=1)
    return float(each[each > 0].mean()) if each.any() else 0.0


def classes_per_draw(
    labels: np.ndarray,
    *,
    batch_size: int,
    draws: int,
    replacement: bool,
    exclude_batch: bool,
    allow_empty: bool,
    epochs: int,
    seed: int,
) -> float:
    """Mean number of classes in the images an image bank really draws; 0.0 without draws.

    The bank holds an image for each class, so images with rare classes and with many classes are drawn more often
    than they occur: on PASCAL VOC an image drawn has about 1.87 classes, an image of the data set 1.56.

    Args:
        labels: (N, C) of 0 and 1, N at least `batch_size`, of the images that an epoch is one pass over.
        batch_size: how many of them are in a batch; negatives beside them change nothing in the bank.
        draws, replacement, exclude_batch, allow_empty: as in training.
        epochs: to simulate; one epoch of PASCAL VOC has a standard error of 0.02.
        seed: of the order of the images and of the draws.

    Raises:
        UserError: fewer images than one batch.
    """
    if draws == 0:
        return 0.0
    rows = torch.as_tensor(np.asarray(labels, np.float32))
    # The draw depends on labels alone, so images of one pixel stand in for the real ones.
    bank = ImageBank(
        num_classes=rows.shape[1],
        crop=1,
        draws=draws,
        replacement=replacement,
        exclude_batch=exclude_batch,
        allow_empty=allow_empty,
        seed=seed,
    )
    image = torch.zeros(batch_size, 3, 1, 1, dtype=torch.uint8)
    box = torch.zeros(batch_size, 4, dtype=torch.int64)
    steps = batch_mix(labels, batch_size, None, section="train_cam").steps_per_epoch()
    total = 0.0
    for epoch in range(epochs):
        order = torch.as_tensor(generator(seed, "simulated order", epoch).permutation(len(rows)))
        for batch in order[: steps * batch_size].split(batch_size):
            bank.update({"image": image, "box": box, "label": rows[batch]})
            total += float(bank.draw()["label"].sum())
    return total / (epochs * steps * draws)


def label_stats_csv(stats: LabelStats, classes: Sequence[str]) -> str:
    """The stats as CSV text with the columns class, n, demand, n_extra, dc, a line for each class."""
    lines = ["class,n,demand,n_extra,dc"]
    for name, n, demand, n_extra, dc in zip(classes, stats.n, stats.demand, stats.n_extra, stats.dc, strict=True):
        lines.append(f"{name},{n},{demand},{n_extra:.10g},{dc:.10g}")
    return "\n".join(lines) + "\n"
