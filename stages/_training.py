"""What the three training stages share: seeded start, scratch checkpoints, the loss curve."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import pandas as pd
import torch
from pydantic import BaseModel
from torch import nn
from torch.utils.data import Dataset
from tqdm import tqdm

from sfc.data.batches import batches
from sfc.data.negatives import BatchMix
from sfc.errors import UserError
from sfc.training import distributed
from sfc.training.checkpoint import Checkpoint
from sfc.training.loop import Stopped, train
from stages._ending import Ended, notice_deferred
from stages._scratch import fingerprint, scratch_folder
from stages._stage import check_writable, output, progress, say, workers, write_json

T = TypeVar("T")


def seeded(seed: int, build: Callable[[], T]) -> T:
    """`build()` with torch's random numbers seeded, and left as they were."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build()


def fit(
    stage: str,
    objective: nn.Module,
    samples: Dataset,
    *,
    target: torch.device,
    mix: BatchMix,
    steps: int,
    section: BaseModel,
    other_sections: Sequence[BaseModel] = (),
    inputs: Sequence[str],
    optimiser: torch.optim.Optimizer,
    lr_factor: Callable[[int], float],
    clip_norm: float | None,
    save: Callable[[Path], None],
    losses: Sequence[str],
    measures: Sequence[str] = (),
    warning: Callable[[Mapping[str, float]], str | None] | None = None,
    facts: dict[str, float],
) -> float:
    """Train `objective` on `samples`, going on from a scratch checkpoint where there is one, and write the results.

    Args:
        mix: which samples are in a batch.
        section: the stage's own params; its random_seed and precision are used here.
        other_sections, inputs: with `section`, what the result depends on beside the code.
        lr_factor: of each step, see `sfc.training.optim.poly`.
        save: writes the trained model, to out/{its name}.safetensors.
        losses: names of the losses beside "loss", in the order of the curve; a run need not have all of them, and
            one that it never has is said.
        measures: names of what else the curve shows, after the losses; likewise.
        warning: see `sfc.calibration.method.Method`; said once during the training, and at its end if it holds there.
        facts: put into the metrics file beside the steps and the last losses and measures.

    Returns:
        The last loss.
    """
    mix.steps_per_epoch()  # raises, before anything is made, where there are too few images
    for folder in ("out", "plots", "metrics"):
        check_writable(folder)
    checkpoint = run_checkpoint(stage, sections=[section, *other_sections], inputs=inputs)
    with notice_deferred() as stop, _ending(stage):
        rows = train(
            objective,
            batches=lambda first: batches(
                samples,
                seed=section.random_seed,
                mix=mix,
                first_step=first,
                steps=steps,
                workers=workers(),
                rank=distributed.rank(),
                world=distributed.world_size(),
            ),
            steps=steps,
            optimiser=optimiser,
            lr_factor=lr_factor,
            clip_norm=clip_norm,
            precision=section.precision,
            device=target,
            checkpoint=checkpoint,
            progress=progress,
            watch=_Watch(stage, steps, warning, names=(*losses, *measures)),
            stop=stop,
        )
    if distributed.is_main():
        with output(f"out/{stage.removeprefix('train_')}.safetensors") as path:
            save(path)
        if silent := [name for name in (*losses, *measures) if not any(name in row for row in rows)]:
            say(f"{stage}: the curve has no {', '.join(silent)}: the training gave no value of it with these params")
        _write_curve(f"plots/{stage}.csv", rows, ["loss", *losses, *measures])
        last = {name: value for name, value in rows[-1].items() if name not in ("step", *measures)}
        shown = {"measures": {name: rows[-1][name] for name in measures if name in rows[-1]}} if measures else {}
        write_json(f"metrics/{stage}.json", {"steps": steps, **facts, "last": last, **shown})
        checkpoint.delete()
    distributed.stop()
    return rows[-1]["loss"]


@contextmanager
def _ending(stage: str) -> Iterator[None]:
    """End the stage where a training stopped because notice was given."""
    try:
        yield
    except Stopped as stopped:
        where = f"at step {stopped.step}" if stopped.step else "without a checkpoint, for which there is no room"
        _say_beside_bar(f"{stage}: stopped {where}")
        raise Ended from None


def run_checkpoint(stage: str, *, sections: Sequence[BaseModel], inputs: Sequence[str]) -> Checkpoint:
    """The scratch checkpoint of a stage's run, saved every SFC_CHECKPOINT_SECONDS (300); see `scratch_folder`."""
    text = os.environ.get("SFC_CHECKPOINT_SECONDS") or "300"
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not seconds >= 0:
        raise UserError(f"SFC_CHECKPOINT_SECONDS={text}: expected a number of seconds")
    mark = fingerprint(sections=sections, inputs=inputs)
    return Checkpoint(
        scratch_folder(stage, mark),
        fingerprint=mark,
        every_seconds=seconds,
        note=lambda text: _say_beside_bar(f"{stage}: {text}"),
    )


def _say_beside_bar(message: str) -> None:
    """A line of its own, not behind the progress bar."""
    with tqdm.external_write_mode(file=sys.stderr):
        say(message)


class _Watch:
    """Looks at the rows of the curve: for values that have no name there, and for what a method warns of.

    A warning is said the first time, and of the last row.
    """

    def __init__(
        self,
        stage: str,
        steps: int,
        warning: Callable[[Mapping[str, float]], str | None] | None,
        *,
        names: Sequence[str],
    ):
        self._stage, self._steps, self._warning, self._names = stage, steps, warning, names
        self._said = False

    def __call__(self, row: Mapping[str, float]) -> None:
        if unknown := [name for name in row if name not in ("step", "loss", *self._names)]:
            raise UserError(
                f"{self._stage}: the objective returns {', '.join(unknown)}, which would be lost; "
                "name it among the losses or the measures of the method"
            )
        last = row["step"] == self._steps
        if self._warning is None or (self._said and not last):
            return
        text = self._warning(row)
        if text is not None:
            _say_beside_bar(f"{self._stage}: {text}" if last else f"{self._stage}: at step {row['step']}, {text}")
            self._said = True


def _write_curve(path: str, rows: list[dict[str, float]], names: Sequence[str]) -> None:
    """The rows of `sfc.training.loop.train` as CSV, a line for each step and name: any losses make one chart."""
    lines = [(row["step"], name, row[name]) for name in names for row in rows if name in row]
    with output(path) as temporary:
        pd.DataFrame(lines, columns=["step", "loss", "value"]).to_csv(temporary, index=False, float_format="%.6g")
