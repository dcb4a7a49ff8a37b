"""What the three training stages share: seeded start, scratch checkpoints, the loss curve."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pandas as pd
import torch
from pydantic import BaseModel

from sfc.training.checkpoint import Checkpoint
from stages._stage import output

T = TypeVar("T")


def seeded(seed: int, build: Callable[[], T]) -> T:
    """`build()` with torch's random numbers seeded, and left as they were."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build()


def run_checkpoint(stage: str, *, sections: list[BaseModel], inputs: list[str]) -> Checkpoint:
    """The scratch checkpoint of a stage's run, under the fingerprint of its params, input files and code.

    It lives beside the project (DVC_ROOT, so that a queued run finds it again), is no DVC output, and is saved every
    SFC_CHECKPOINT_SECONDS (300).
    """
    digest = hashlib.sha256()
    for section in sections:
        digest.update(json.dumps(section.model_dump(), sort_keys=True).encode())
    for path in inputs:
        digest.update(Path(path).read_bytes() if Path(path).is_file() else path.encode())
    code = {m.__file__ for name, m in sys.modules.items() if name.startswith("sfc.") and getattr(m, "__file__", None)}
    for path in sorted(code):
        digest.update(Path(path).read_bytes())
    fingerprint = digest.hexdigest()
    folder = Path(os.environ.get("DVC_ROOT", ".")) / ".scratch" / stage / fingerprint[:16]
    return Checkpoint(
        folder, fingerprint=fingerprint, every_seconds=float(os.environ.get("SFC_CHECKPOINT_SECONDS", "300"))
    )


def write_curve(path: str, rows: list[dict[str, float]]) -> None:
    """The rows of `sfc.training.loop.train` as CSV with a `step` column."""
    with output(path) as temporary:
        pd.DataFrame(rows).to_csv(temporary, index=False, float_format="%.6g")
