"""The endless sequence of training batches, the same for every number of workers and processes."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from sfc.errors import UserError
from sfc.randomness import generator

GRACE = 30  # seconds that a worker serves on after SIGTERM


def steps_per_epoch(images: int, batch_size: int, *, param: str = "batch_size") -> int:
    """Whole batches in one pass over the images; raises UserError, which names `param`, if there is none."""
    if images < batch_size:
        raise UserError(f"{images} training images are fewer than one batch of {batch_size}; lower {param}")
    return images // batch_size


def batches(
    dataset: Dataset,
    *,
    seed: int,
    batch_size: int,
    first_step: int,
    steps: int,
    workers: int,
    rank: int,
    world: int,
) -> Iterator[dict[str, Tensor]]:
    """This process's share of the global batches first_step .. steps - 1.

    Each epoch is a new permutation of the images, cut into whole batches. Global batch s is the same whatever
    `first_step`, `workers`, `rank` and `world`; process `rank` gets its contiguous share of it, so the shares
    of all processes, concatenated by rank, are the global batch.

    Args:
        dataset: of N samples, indexed by (index, epoch), each a dict of tensors.
        batch_size: of the global batch.
        steps: length of the whole run.
        workers: processes that decode; 0 decodes in this one.

    Raises:
        UserError: fewer images than one batch, or fewer images in a batch than processes; and what a sample raises.
    """
    per_epoch = steps_per_epoch(len(dataset), batch_size)
    if batch_size < world:
        raise UserError(f"batch_size {batch_size} cannot be shared among {world} processes; start fewer")
    keys = _Keys(len(dataset), per_epoch, seed, batch_size, range(first_step, steps), rank, world)
    loader = DataLoader(
        _Caught(dataset),
        batch_sampler=keys,
        num_workers=workers,
        collate_fn=_collate,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=_serve_on,
    )
    for batch in loader:
        if isinstance(batch, UserError):
            raise batch
        yield batch


def _serve_on(worker: int) -> None:
    """Keep a worker at work after SIGTERM, which reaches all processes at once: the training wants to end its step."""
    signal.signal(signal.SIGTERM, lambda *_: signal.alarm(GRACE))


class _Caught(Dataset):
    """Hands a sample's UserError over as its value: raised in a worker, its line would drown in a traceback."""

    def __init__(self, dataset: Dataset):
        self.dataset = dataset

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Tensor] | UserError:
        try:
            return self.dataset[key]
        except UserError as error:
            return error


def _collate(samples: list) -> dict[str, Tensor] | UserError:
    return next((sample for sample in samples if isinstance(sample, UserError)), None) or default_collate(samples)


class _Keys:
    """The (index, epoch) pairs of each of this process's batches."""

    def __init__(self, images: int, per_epoch: int, seed: int, batch_size: int, steps: range, rank: int, world: int):
        self.images, self.per_epoch, self.seed = images, per_epoch, seed
        self.batch_size, self.steps, self.rank, self.world = batch_size, steps, rank, world

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        order, order_epoch = None, None
        for step in self.steps:
            epoch, place = divmod(step, self.per_epoch)
            if epoch != order_epoch:
                order, order_epoch = generator(self.seed, "order", epoch).permutation(self.images), epoch
            batch = order[place * self.batch_size : (place + 1) * self.batch_size]
            share = np.array_split(batch, self.world)[self.rank]
            yield [(int(index), epoch) for index in share]
