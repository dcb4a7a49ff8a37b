"""Label archives written by all processes that torchrun started, shard by shard, so that a killed stage goes on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

import numpy as np

from sfc.data.manifest import Record
from sfc.label_archive import LabelArchive, LabelArchiveWriter
from sfc.sealed import sealed
from sfc.training import distributed
from stages._scratch import Scratch
from stages._stage import output, writing

Batch = TypeVar("Batch", bound=Sequence[Record])
SHARDS = 256  # at most: few enough to be open at once
SMALLEST = 16  # images in a shard: seconds of work, beside which its files cost nothing


def label_shards(batches: Sequence[Batch]) -> list[list[Batch]]:
    """Batches in their order as shards of about one number of images, whatever the number of processes."""
    size = max(SMALLEST, -(-sum(map(len, batches)) // SHARDS))
    shards: list[list[Batch]] = []
    images = size
    for batch in batches:
        if images >= size:
            shards.append([])
            images = 0
        shards[-1].append(batch)
        images += len(batch)
    return shards


class LabelShards:
    """The label maps of a stage's run, in one archive or several, that appear when all are there.

    Args:
        scratch: of the run; finished shards are kept in it until the archives are written.
        shards: batches of images, see `label_shards`.
        paths: name of each archive -> where it goes.
    """

    def __init__(self, scratch: Scratch, shards: Sequence[Sequence[Batch]], paths: Mapping[str, str]):
        self._scratch, self._paths = scratch, paths
        self._ids = [[record.id for batch in shard for record in batch] for shard in shards]
        left = scratch.left([self._files(shard) for shard in range(len(shards))])
        self._mine = left[distributed.rank() :: distributed.world_size()]
        self.batches = [batch for shard in self._mine for batch in shards[shard]]
        self.images = sum(map(len, self.batches))

    def write(self, labels: Iterable[tuple[str, Sequence[np.ndarray]]]) -> None:
        """Write this process's shards.

        Args:
            labels: of `batches`, in their order: id and one (H, W) uint8 an archive.
        """
        labels = iter(labels)
        for shard in self._mine:
            with writing(self._scratch.folder), ExitStack() as stack:
                files = [stack.enter_context(sealed(path)) for path in self._files(shard)]
                writers = [stack.enter_context(LabelArchiveWriter(file)) for file in files]
                for id in self._ids[shard]:
                    found, maps = next(labels)
                    if found != id:
                        raise ValueError(f"expected the label map of {id}, not that of {found}")
                    for writer, label in zip(writers, maps, strict=True):
                        writer.write(id, label)
        next(labels, None)  # lets a progress bar end
        distributed.barrier()

    def join(self, ids: Sequence[str], *, counted: str) -> np.ndarray:
        """Write the archives, in the order of `ids`, on the main process; when all have called `write`.

        Returns:
            (256,) int64, the number of pixels of each label value in the archive `counted`; zeros on other processes.
        """
        counts = np.zeros(256, np.int64)
        if distributed.is_main():
            for number, (name, path) in enumerate(self._paths.items()):
                with output(path) as joined, LabelArchiveWriter(joined) as writer:
                    for id, archive in self._found(number, ids):
                        writer.write_png(id, archive.read_png(id))
                        if name == counted:
                            counts += np.bincount(archive.read(id).ravel(), minlength=256)
        return counts

    def _found(self, number: int, ids: Sequence[str]) -> Iterator[tuple[str, LabelArchive]]:
        archives = [LabelArchive(self._files(shard)[number]) for shard in range(len(self._ids))]
        where = {id: archive for archive in archives for id in archive.ids}
        return ((id, where[id]) for id in ids)

    def _files(self, shard: int) -> list[Path]:
        return [self._scratch.folder / f"{shard:05d}.{name}.zip" for name in self._paths]
