"""Scratch checkpoints that a killed run goes on from, and a changed run ignores."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from sfc.sealed import is_whole, remove, sealed
from sfc.storage import storage_error, storage_line

KEPT = 2  # states: should the last one turn out damaged, there is the one before it


class Checkpoint:
    """The last states of one training run, in a folder that belongs to it alone.

    Args:
        folder: created when the first state is saved; removed by `delete`.
        fingerprint: of everything that determines the run (params, inputs, code version). A state saved under
            another fingerprint is never loaded.
        every_seconds: `due` is true when this much time has passed since the last save or since the start.
        note: takes a line for the person who watches.
    """

    def __init__(self, folder: Path, *, fingerprint: str, every_seconds: float, note: Callable[[str], None]):
        self._folder = folder
        self._fingerprint = fingerprint
        self._every = every_seconds
        self._note = note
        self._refused = False
        self._saved_at = time.monotonic()

    def due(self) -> bool:
        return time.monotonic() - self._saved_at >= self._every

    def save(self, state: dict[str, Any]) -> bool:
        """Write tensors, numbers, strings and containers of them; False where the disk does not take them.

        Then, too, the older states stay, nothing is left of the new one, and a note says so once.

        Args:
            state: its "step" is the number of steps done.
        """
        path = self._folder / f"{state['step']:09d}.pt"
        self._saved_at = time.monotonic()
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with sealed(path) as temporary, open(temporary, "wb") as file:
                torch.save({"fingerprint": self._fingerprint, "state": state}, file)
        except FileNotFoundError:  # another experiment that shares the folder has ended and taken it away
            return False
        except (OSError, RuntimeError) as error:
            refused = storage_error(error)
            if refused is None:
                raise
            if not self._refused:
                self._note(f"{storage_line(refused, path)}. The training goes on without this scratch checkpoint")
            self._refused = True
            return False
        for older in self._paths()[KEPT:]:
            remove(older)
        return True

    def load(self, step: int | None = None) -> dict[str, Any] | None:
        """The last saved state on the CPU, or None when there is none for this fingerprint.

        What is damaged is named, taken away and passed over.

        Args:
            step: of the state to load, no other.
        """
        for path in self._paths():
            if step is not None and path != self._folder / f"{step:09d}.pt":
                continue
            saved = _read(path)
            if saved is None:
                self._note(f"the scratch checkpoint {path} is damaged and passed over")
                remove(path)
            elif saved["fingerprint"] == self._fingerprint:
                return saved["state"]
        return None

    def resumed(self, step: int) -> None:
        """Say that the run goes on."""
        self._note(f"goes on from step {step}, from a scratch checkpoint in {self._folder}")

    def delete(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    def _paths(self) -> list[Path]:
        """Files of states, the last one first."""
        return sorted(self._folder.glob("[0-9]*.pt"), reverse=True)


def _read(path: Path) -> dict[str, Any] | None:
    """What `Checkpoint.save` wrote; None if it is damaged."""
    if not is_whole(path):
        return None
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
        return saved if {"fingerprint", "state"} <= saved.keys() else None
    except Exception:  # bytes that are whole and yet another version's can break torch's parser anywhere
        return None
