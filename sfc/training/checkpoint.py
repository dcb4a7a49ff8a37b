"""Scratch checkpoints that a killed run goes on from, and a changed run ignores."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Any

import torch


class Checkpoint:
    """The last state of one training run, in a folder that belongs to it alone.

    Args:
        folder: created when the first state is saved; removed by `delete`.
        fingerprint: of everything that determines the run (params, inputs, code version). A state saved under
            another fingerprint is never loaded.
        every_seconds: `due` is true when this much time has passed since the last save or since the start.
    """

    def __init__(self, folder: Path, *, fingerprint: str, every_seconds: float):
        self._folder = folder
        self._path = folder / "last.pt"
        self._fingerprint = fingerprint
        self._every = every_seconds
        self._saved_at = time.monotonic()

    def due(self) -> bool:
        return time.monotonic() - self._saved_at >= self._every

    def save(self, state: dict[str, Any]) -> None:
        """Write tensors, numbers, strings and containers of them; a crash while writing keeps the older state."""
        # Two experiments that differ only further down share this folder: each writes a file of its own, and the first
        # to end may take the folder away while the other saves.
        temporary = self._path.with_suffix(f".{os.getpid()}.partial")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            torch.save({"fingerprint": self._fingerprint, "state": state}, temporary)
            os.replace(temporary, self._path)
        except (FileNotFoundError, RuntimeError):
            if self._folder.exists():
                raise
        self._saved_at = time.monotonic()

    def load(self) -> dict[str, Any] | None:
        """The saved state on the CPU, or None when there is none for this fingerprint."""
        try:
            saved = torch.load(self._path, map_location="cpu", weights_only=True)
        except FileNotFoundError:
            return None
        return saved["state"] if saved["fingerprint"] == self._fingerprint else None

    def delete(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
