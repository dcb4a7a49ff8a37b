"""The SFC training step on a CPU, with glibc keeping freed memory or returning it; run as a program, one of the two.

How glibc allocates is a matter of the whole process, so each form has its own, which makes a step for each line it
reads and answers with the loss and its peak memory.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import torch

from bench.inputs import cam_network, uniform
from bench.measure import Pair, Row, resident
from sfc.calibration.image_bank import ImageBank
from sfc.memory import keep_freed_memory
from sfc.methods.sfc import SfcObjective
from sfc.training.optim import sgd

_ROOT = Path(__file__).resolve().parents[1]


class _Process:
    """One form in its own process."""

    def __init__(self, keep: bool, size: dict):
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.training", json.dumps({"keep": keep, **size})],
            cwd=_ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.peak: float | None = None

    def step(self) -> tuple[float]:
        print(file=self._process.stdin, flush=True)
        loss, self.peak = json.loads(self._process.stdout.readline())
        return (loss,)

    def close(self) -> None:
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()


def freed_memory(device: torch.device, **size: object) -> Pair:
    """The losses of equal steps; peak memory is that of the whole process."""
    plain, ours = _Process(False, size), _Process(True, size)

    def close() -> None:
        plain.close()
        ours.close()

    return Pair(plain.step, ours.step, peaks=lambda: (plain.peak, ours.peak), close=close)


def _training(arch: str, batch: int, classes: int, crop: int):
    """A function that makes one step on the same batch and returns the loss."""
    bank = ImageBank(
        num_classes=classes, crop=crop, draws=4, replacement=True, exclude_batch=False, allow_empty=False, seed=0
    )
    objective = SfcObjective(
        cam_network(arch, classes),
        bank=bank,
        dc=torch.ones(classes),
        w_proto=1.6,
        w_scale=0.8,
        dc_proto=True,
        dc_scale=True,
        proto_norm="max",
        empty="zero",
        reduction="mean",
        detach_large=False,
    )
    objective = objective.to(memory_format=torch.channels_last).train()
    params = list(objective.network.parameters())
    optimiser = sgd([{"params": params, "lr": 1e-3, "weight_decay": 1e-4}], momentum=1e-4)
    inputs = {
        "image": (uniform(batch, 3, crop, crop) * 255).to(torch.uint8),
        "box": torch.tensor([[0, 0, crop, crop]]).expand(batch, 4),
        "label": torch.eye(classes)[torch.arange(batch) % classes],
    }

    def step() -> float:
        with torch.autocast("cpu", torch.bfloat16):
            loss = objective(inputs)["loss"]
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        return float(loss.detach())

    return step


def main(keep: bool, **size: object) -> None:
    """Answer each line of stdin with a step's [loss, peak MiB], until it ends."""
    if keep:
        keep_freed_memory()
    step = _training(**size)
    for _ in sys.stdin:
        loss = step()
        try:
            peak = resident("VmHWM")
        except OSError:
            peak = None
        print(json.dumps([loss, peak]), flush=True)


ROWS = (
    Row(
        "training-step",
        "freed memory returned to the kernel -> kept; whole SFC step, bf16",
        freed_memory,
        {
            "tiny": {"arch": "resnet18", "batch": 1, "classes": 3, "crop": 32},
            "small": {"arch": "resnet50", "batch": 4, "classes": 20, "crop": 192},
            "full": {"arch": "resnet50", "batch": 4, "classes": 20, "crop": 384},
        },
        tolerance=1e-4,
        cpu_only=True,
    ),
)

if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
