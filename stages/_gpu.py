"""One experiment a GPU: the workers of DVC's queue all see the same GPUs, so each process takes a free one."""

from __future__ import annotations

import fcntl
import functools
import os
import time
from collections.abc import Sequence
from pathlib import Path

import click

from sfc.launch import launched
from stages._copies import copied_project

_held = []  # a lock ends when its file is closed


@functools.cache
def gpu_index() -> int:
    """The GPU of this process among those it sees: that of its rank, one leased for an experiment, or the first."""
    import torch

    if "LOCAL_RANK" in os.environ:
        return launched("LOCAL_RANK", 0)
    project, visible = copied_project(), os.environ.get("CUDA_VISIBLE_DEVICES")
    names = visible.split(",") if visible else [str(number) for number in range(torch.cuda.device_count())]
    if project is None or (visible and len(names) == 1):
        return 0
    index = lease(names, project / ".scratch")
    torch.cuda.set_device(index)  # else pinned memory would open a context on the first GPU, too
    return index


def lease(names: Sequence[str], folder: Path) -> int:
    """Take a GPU until this process ends, however it ends; waits while all are taken.

    Args:
        names: of the GPUs, the same for every process of the machine.
        folder: for the lock files, the same for every process.

    Returns:
        Index into `names`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    machine = os.uname().nodename  # several may share the folder
    files = [(folder / f"gpu-{machine}-{name.strip()}.lock").open("w") for name in names]
    _held.extend(files)
    waiting = False
    while True:
        for index, file in enumerate(files):
            try:
                # not flock: worker processes that outlive a killed one would inherit that and keep the GPU
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return index
            except OSError:
                continue
        if not waiting:
            click.echo(f"all {len(names)} GPUs are taken by other experiments: waiting", err=True)
        waiting = True
        time.sleep(1)
