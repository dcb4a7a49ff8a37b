"""The head of the segmentation network."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from bench.inputs import uniform
from bench.measure import Pair, Row
from sfc.segmentation.deeplab import ASPP


def aspp(
    device: torch.device, *, batch: int, channels: int, classes: int, side: int, rates: tuple[int, ...], bf16: bool
) -> Pair:
    """Logits and gradient of the features."""
    torch.manual_seed(0)
    head = ASPP(channels, classes, rates).to(device, memory_format=torch.channels_last)
    features = uniform(batch, channels, side, side).to(device, memory_format=torch.channels_last).requires_grad_()
    weight = uniform(batch, classes, side, side, seed=1).to(device)

    def with_gradient(form) -> tuple[Tensor, Tensor]:
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            logits = form(features)
        return logits.float(), *torch.autograd.grad((logits * weight).sum(), features)

    def plain() -> tuple:
        return with_gradient(lambda x: sum(branch(x) for branch in head.branches))

    return Pair(plain, lambda: with_gradient(head))


_SIZES = {
    "tiny": {"batch": 1, "channels": 32, "classes": 3, "side": 8, "rates": (2, 4)},
    "small": {"batch": 2, "channels": 2048, "classes": 21, "side": 41, "rates": (6, 12, 18, 24)},
    "full": {"batch": 10, "channels": 2048, "classes": 21, "side": 41, "rates": (6, 12, 18, 24)},
}
_WHAT = "dilated convolutions -> matrix product and fold; with gradient"

ROWS = (
    Row("aspp-fp32", f"{_WHAT}, fp32", partial(aspp, bf16=False), _SIZES, tolerance=1e-4),
    Row("aspp-bf16", f"{_WHAT}, bf16", partial(aspp, bf16=True), _SIZES, tolerance=5e-2),
)
