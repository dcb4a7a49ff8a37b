"""SGD with one learning rate a group, and the polynomial schedule."""

from __future__ import annotations

from collections.abc import Callable

import torch


def sgd(groups: list[dict], *, momentum: float) -> torch.optim.SGD:
    """SGD over `groups`, each {"params", "lr", "weight_decay"}; parameters without gradient are left out.

    The public implementations pass their weight decay into the momentum slot and so train at momentum 1e-4;
    their learning rates of 0.1 and 1 depend on it.
    """
    kept = []
    for group in groups:
        params = [p for p in group["params"] if p.requires_grad]
        if params:
            kept.append({**group, "params": params})
    return torch.optim.SGD(kept, momentum=momentum, fused=True)


def poly(steps: int, power: float, *, hold: float = 0.0) -> Callable[[int], float]:
    """The lr's factor at step 0 .. steps - 1: 1 for the first `hold` share of the steps, then polynomial decay.

        held = round(hold * steps)      factor(s) = 1 if s < held else (1 - (s - held) / (steps - held)) ** power

    The factors of a run add up to about steps * (hold + (1 - hold) / (1 + power)), its steps weighted by lr: a run too
    short for what it has to learn gets up to 1 + power times the training at the same lr. Below hold 1, which does not
    fall at all, it still ends near 0.
    """
    held = round(hold * steps)
    return lambda step: 1.0 if step < held else (1 - (step - held) / (steps - held)) ** power
