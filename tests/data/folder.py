"""Images, masks and records on file, for the tests."""

from pathlib import Path

import numpy as np
from PIL import Image

from sfc.data.manifest import Record


def write_image(path: Path, height: int, width: int, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def write_mask(path: Path, labels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(labels.astype(np.uint8)).save(path)


def record(
    path: Path, size: tuple[int, int], labels=(0,), *, split: str = "train", mask: Path | None = None, seed: int = 0
) -> Record:
    """The record of a random image, which is written to `path`; its id is the file's name."""
    write_image(path, *size, seed)
    return Record(path.stem, split, path, mask, *size, labels, "hash", "table")


def records(folder: Path, sizes=((30, 40), (50, 20), (24, 24))) -> list[Record]:
    """Training records of random images; image i shows class i and class 0."""
    return [record(folder / f"{i}.png", size, tuple(sorted({0, i})), seed=i) for i, size in enumerate(sizes)]
