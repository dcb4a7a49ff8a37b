"""What `bench.chosen` has counted of a network, on file: RUN/chosen/STEP, part by part."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from sfc.errors import UserError

PARTS = ("val", "train")  # counted after the choice


class Counts:
    """The counts of one network.

    Attributes:
        folder: facts.json, which has what was chosen, and an array a part, each complete or not there.
    """

    def __init__(self, network: Path):
        """`network`: RUN/networks/STEP.safetensors."""
        self.folder = network.parents[1] / "chosen" / network.stem

    def complete(self) -> bool:
        """Whether all parts are there, of whatever."""
        return all((self.folder / f"{part}.npy").exists() for part in PARTS)

    def facts(self) -> dict[str, Any]:
        """What was chosen, {} without a file that can be read."""
        try:
            return json.loads((self.folder / "facts.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}

    def start(self, facts: dict[str, Any]) -> None:
        """Write what was chosen, and drop what was counted of other facts."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        unfinished = self.folder / "facts.json.partial"
        unfinished.write_text(json.dumps(facts), encoding="utf-8")
        os.replace(unfinished, self.folder / "facts.json")

    def has(self, part: str) -> bool:
        return (self.folder / f"{part}.npy").exists()

    def write(self, part: str, counts: np.ndarray) -> None:
        """Write (rows, images, 3, K) int32, as `Confusion.per_image`, images by id."""
        unfinished = self.folder / f"{part}.partial"
        with unfinished.open("wb") as file:
            np.save(file, counts)
        os.replace(unfinished, self.folder / f"{part}.npy")

    def read(self, part: str) -> np.ndarray:
        """What `write` wrote; raises UserError for a damaged file."""
        path = self.folder / f"{part}.npy"
        try:
            return np.load(path)
        except (OSError, ValueError, EOFError) as error:
            raise UserError(f"{path}: damaged ({error}); delete it, and call python -m bench.chosen again") from None
