"""One output folder written by all processes that torchrun started."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import torch.distributed as dist

from sfc.training import distributed
from stages._stage import output


@contextmanager
def shared_folder(path: str | Path) -> Iterator[Path]:
    """`output(path)` for a folder that every process writes files of its own to; it appears when all are done.

    The processes must see one file system. `sfc.training.distributed.start` comes first.
    """
    with output(path) if distributed.is_main() else nullcontext() as folder:
        if distributed.is_main():
            folder.mkdir()
        names = [str(folder)]
        if distributed.world_size() > 1:
            dist.broadcast_object_list(names)
        yield Path(names[0])
        distributed.barrier()
