"""One label archive written by all processes that torchrun started."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from sfc.label_archive import LabelArchive, LabelArchiveWriter
from sfc.training import distributed
from stages._stage import output, shared_folder


def write_labels(path: str, labels: Iterable[tuple[str, np.ndarray]], *, ids: Sequence[str]) -> np.ndarray:
    """Write the label maps of all processes to one archive, in the order of `ids`.

    Args:
        labels: this process's share: id and (H, W) uint8, in any order.
        ids: all images.

    Returns:
        (256,) int64, the number of pixels of each label value; zeros on all but the main process.
    """
    parts = Path(path).with_name(f".{Path(path).name}.parts")  # an archive a process, until the main one joins them
    with shared_folder(parts) as folder, LabelArchiveWriter(folder / f"{distributed.rank()}.zip") as part:
        for id, label in labels:
            part.write(id, label)
    counts = np.zeros(256, np.int64)
    if distributed.is_main():
        where = {id: archive for archive in map(LabelArchive, sorted(parts.iterdir())) for id in archive.ids}
        try:
            with output(path) as joined, LabelArchiveWriter(joined) as writer:
                for id in ids:
                    label = where[id].read(id)
                    writer.write(id, label)
                    counts += np.bincount(label.ravel(), minlength=256)
        finally:
            shutil.rmtree(parts)
    return counts
