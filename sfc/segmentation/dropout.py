"""Dropout whose random numbers belong to the training step, not to the process that runs it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sfc.randomness import generator
from sfc.training import distributed


class Dropout(nn.Module):
    """Sets values to 0 with probability `p` in training, and divides the others by 1 - p.

    torch's own takes its numbers from wherever the process's generator stands: a run that is killed and resumed, or
    shared by more processes, would be another run. Here every process draws for the whole batch and uses its rows.

    Args:
        p: probability in 0..1.
        whole_channels: drop whole maps of one image, not single values.
    """

    def __init__(self, p: float, *, whole_channels: bool):
        super().__init__()
        self.p, self.whole_channels = p, whole_channels
        self._numbers: torch.Generator | None = None
        self._batch_size = 0

    def start_step(self, numbers: torch.Generator, batch_size: int) -> None:
        """Draw from `numbers`, a generator on the features' device, for a global batch of `batch_size` images."""
        self._numbers, self._batch_size = numbers, batch_size

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, H, W), this process's share of the batch, to the same shape; unchanged outside training."""
        if not self.training or self.p == 0:
            return features
        size = (1, 1) if self.whole_channels else features.shape[2:]
        shape = (self._batch_size, features.shape[1], *size)
        kept = torch.rand(shape, generator=self._numbers, device=features.device) >= self.p
        return features * kept[distributed.share(self._batch_size)] / (1 - self.p)


def start_step(network: nn.Module, *, seed: int, step: int, batch_size: int, device: torch.device) -> None:
    """Give every `Dropout` in `network` the random numbers of one step."""
    layers = [module for module in network.modules() if isinstance(module, Dropout)]
    if layers:
        numbers = torch.Generator(device).manual_seed(int(generator(seed, "dropout", step).integers(2**63)))
        for layer in layers:
            layer.start_step(numbers, batch_size)
