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


def poly(steps: int, power: float) -> Callable[[int], float]:
    """The factor (1 - step / steps) ** power of step 0 .. steps - 1."""
    return lambda step: (1 - step / steps) ** power
