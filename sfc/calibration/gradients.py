"""How hard the classification loss pulls on every class's logit, for and against, during training (Eq. 10)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from sfc.training import distributed


class GradientRecord(nn.Module):
    """Sums of Eq. 10 over the samples of each interval of training.

    With logit z and label y of a class in a sample, Eq. 10 is the negative derivative of the binary cross entropy:
    1 - sigmoid(z) > 0 where y = 1 (positive), -sigmoid(z) < 0 where y = 0 (negative). The batch's and the classes'
    mean, by which the loss divides, are left out.

    All state is in buffers on the training device (and a step counter on the host), equal on all processes: a
    checkpoint of a module that holds this restores it, and nothing waits for the device before `means`.

    Args:
        num_classes: C.
        interval: training steps in an interval, such as an epoch.
        intervals: how many of them; steps beyond the last one count to it.
    """

    def __init__(self, num_classes: int, *, interval: int, intervals: int):
        super().__init__()
        self.interval, self._step = interval, 0
        self.register_buffer("sums", torch.zeros(intervals, 2, num_classes))
        self.register_buffer("counts", torch.zeros(intervals, 2, num_classes))

    @torch.no_grad()
    def add(self, score: Tensor, labels: Tensor) -> None:
        """Count this process's share of a training step, once a step.

        Args:
            score: (B, C) logits.
            labels: (B, C) 0 or 1.
        """
        shown = labels.float()
        pull = shown - score.detach().float().sigmoid()
        sides = torch.stack([shown, 1 - shown])
        share = torch.stack([(sides * pull).sum(dim=1), sides.sum(dim=1)])
        total = distributed.average(share) * distributed.world_size()
        row = min(self._step // self.interval, len(self.sums) - 1)
        self.sums[row] += total[0]
        self.counts[row] += total[1]
        self._step += 1

    def means(self) -> Tensor:
        """(intervals, 2, C) float32: mean positive and negative gradient, on the host; NaN without a sample."""
        return torch.where(self.counts > 0, self.sums / self.counts, math.nan).cpu()

    def get_extra_state(self) -> dict:
        return {"step": self._step}

    def set_extra_state(self, state: dict) -> None:
        self._step = state["step"]


def write_gradients(record: GradientRecord, path: Path, classes: Sequence[str]) -> None:
    """CSV with a row for every interval and class: step (its last), class, positive, negative; empty where unknown."""
    lines = ["step,class,positive,negative"]
    for row, (positive, negative) in enumerate(record.means().tolist()):
        for name, *values in zip(classes, positive, negative, strict=True):
            cells = ("" if math.isnan(value) else f"{value:.6g}" for value in values)
            lines.append(",".join([str((row + 1) * record.interval), name, *cells]))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
