"""The rules by which a map becomes background or a class, and the best of many of them on images with masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sfc.evaluation.thresholds import ThresholdSweep, sweep_thresholds
from sfc.fusion import EPS, background_rule


@dataclass(frozen=True)
class Rule:
    """What stands against a class.

    Attributes:
        gain: what the foreground is multiplied by; None: a constant stands in for the background map.
        value: what is added to the background map; without `gain` the constant.
    """

    gain: float | None
    value: float

    def cams(self, maps: Tensor) -> Tensor:
        """(1 + C, H, W) maps, background first, under the rule; the argmax is the label."""
        if self.gain is not None:
            return background_rule(maps, fg_gain=self.gain, bg_offset=self.value)
        foreground = scaled(maps[1:])
        return torch.cat([foreground.new_full((1, *foreground.shape[1:]), self.value), foreground])

    def __str__(self) -> str:
        if self.gain is None:
            return f"constant background {self.value:.2f}"
        added = f"background {'-' if self.value < 0 else '+'} {abs(self.value):.2f}" if self.value else ""
        gained = f"foreground x {self.gain:g}" if self.gain != 1 else ""
        return ", ".join(filter(None, (gained, added))) or "nothing added"


NOTHING, RELEASED = Rule(1.0, 0.0), Rule(2.0, 0.4)
TRIED = {  # gain -> values, above -1, which `ThresholdSweep` gives where an image has no class
    None: sweep_thresholds(0.0, 1.0, 0.01),
    1.0: sweep_thresholds(-0.3, 1.0, 0.01),
    2.0: sweep_thresholds(-0.3, 1.3, 0.01),
}


def scaled(foreground: Tensor) -> Tensor:
    """(C, H, W) maps, each with maximum 1."""
    return foreground / (foreground.amax(dim=(-2, -1), keepdim=True) + EPS)


class RuleSweep:
    """Counts images at every rule of `TRIED`; `add` may be called from several threads."""

    def __init__(self, num_classes: int):
        self._sweeps = {gain: ThresholdSweep(num_classes, values) for gain, values in TRIED.items()}

    def add(self, id: str, truth: np.ndarray, maps: Tensor, classes: Sequence[int]) -> None:
        """Count one image.

        A class wins if gain x map > background + value, so what is swept is gain x map - background.

        Args:
            maps: (1 + C, H, W) float32, background first.
            classes: label-map value of each class; else as `ThresholdSweep.add`.
        """
        for gain, sweep in self._sweeps.items():
            above = scaled(maps[1:]) if gain is None else gain * maps[1:] - maps[0]
            sweep.add(id, truth, above, classes)

    def best(self, gain: float | None) -> tuple[Rule, float]:
        """The rule with this gain that has the highest mIoU (0..1), and that; the lowest value if several have it."""
        value, miou = self._sweeps[gain].best()
        return Rule(gain, value), miou
