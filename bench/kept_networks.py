"""`python -m bench.kept_networks FOLDER STEP ..`: the stage train_cam, whose network at some steps is kept as a file.

The stage has no option for it, since its one product is the network of the last step: here its checkpoint is saved at
these steps, too, and the network with it. That of the last step is kept if it is named.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import click

from sfc.methods import save_cam_network
from sfc.training import distributed
from sfc.training.checkpoint import Checkpoint
from stages import _training, train_cam
from stages._errors import errors_as_lines
from stages._places import GivenPath, check_folder


class _Kept(Checkpoint):
    """A checkpoint that is due at `steps`, and then writes the network to `folder`, too."""

    folder: Path
    steps: frozenset[int]
    write: partial
    _done = 0

    def load(self, step=None):
        state = super().load(step)
        self._done = 0 if state is None else state["step"]
        return state

    def due(self):
        self._done += 1
        return self._done in self.steps or super().due()

    def save(self, state):
        saved = super().save(state)
        if state["step"] in self.steps:
            _kept(self.write, network_path(self.folder, state["step"]))
        return saved


def network_path(folder: Path, step: int) -> Path:
    """Where the network of a step is kept."""
    return folder / f"{step:06d}.safetensors"


def _kept(write: partial, path: Path) -> None:
    """A file of `save_cam_network`, complete or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path.with_suffix(".partial"))
    os.replace(path.with_suffix(".partial"), path)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("folder", type=GivenPath(path_type=Path))
@click.argument("steps", metavar="[STEP]...", nargs=-1, type=click.IntRange(min=1))
def main(folder: Path, steps: tuple[int, ...]) -> None:
    """Run the stage train_cam and keep its network at each STEP in FOLDER."""
    with errors_as_lines():
        check_folder(folder)
    fit = train_cam.fit

    def keeping(stage, objective, *arguments, steps, save, **given):
        facts = {name: save.keywords[name] for name in ("method", "classes", "params")}
        _Kept.write = partial(save_cam_network, objective.network, **facts)
        loss = fit(stage, objective, *arguments, steps=steps, save=save, **given)
        if steps in _Kept.steps and distributed.is_main():  # no checkpoint is written of it
            _kept(_Kept.write, network_path(_Kept.folder, steps))
        return loss

    _Kept.folder, _Kept.steps = folder, frozenset(steps)
    _training.Checkpoint, train_cam.fit = _Kept, keeping
    train_cam.main(args=[])


if __name__ == "__main__":
    main()
