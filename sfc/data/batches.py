"""The endless sequence of training batches, the same for every number of workers and processes."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from sfc.data.negatives import BatchMix
from sfc.errors import UserError
from sfc.randomness import generator

GRACE = 30  # seconds that a worker serves on after SIGTERM


def batches(
    dataset: Dataset,
    *,
    seed: int,
    mix: BatchMix,
    first_step: int,
    steps: int,
    workers: int,
    rank: int,
    world: int,
) -> Iterator[dict[str, Tensor]]:
    """This process's share of the global batches first_step .. steps - 1.

    Each epoch is a new permutation of the images, cut into whole batches; where a part of every batch is negatives,
    these are taken from permutations of their own, one after the other without regard to epochs, and stand evenly
    between the others. Global batch s is the same whatever `first_step`, `workers`, `rank` and `world`; process `rank`
    gets its contiguous share of it, so the shares of all processes, concatenated by rank, are the global batch.

    Args:
        dataset: indexed by (position, pass over the images or over the negatives), each sample a dict of tensors.
        mix: which of its samples are in a batch.
        steps: length of the whole run.
        workers: processes that decode; 0 decodes in this one.

    Raises:
        UserError: fewer images than one batch, or fewer images in a batch than processes; and what a sample raises.
    """
    if mix.batch_size < world:
        raise UserError(f"batch_size {mix.batch_size} cannot be shared among {world} processes; start fewer")
    keys = _Keys(mix, seed, range(first_step, steps), rank, world)
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
    """The (position, pass) pairs of each of this process's batches."""

    def __init__(self, mix: BatchMix, seed: int, steps: range, rank: int, world: int):
        self.mix, self.seed, self.per_epoch = mix, seed, mix.steps_per_epoch()
        self.steps, self.rank, self.world = steps, rank, world

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        images = _Passes(self.mix.images, self.seed, "order")
        negatives = _Passes(self.mix.negatives, self.seed, "order of negatives")
        own, others = self.mix.images_each, self.mix.negatives_each
        for step in self.steps:
            epoch, place = divmod(step, self.per_epoch)
            batch = [images.key(epoch, number) for number in range(place * own, (place + 1) * own)]
            turns = [divmod(turn, len(negatives)) for turn in range(step * others, (step + 1) * others)]
            batch = _spread(batch, [negatives.key(*turn) for turn in turns])
            share = np.array_split(np.arange(len(batch)), self.world)[self.rank]
            yield [batch[row] for row in share]


class _Passes:
    """Images in a new order in every pass over them; the last pass that was asked for is kept."""

    def __init__(self, positions: np.ndarray, seed: int, purpose: str):
        self._positions, self._seed, self._purpose = positions, seed, purpose
        self._order, self._pass = None, None

    def __len__(self) -> int:
        return len(self._positions)

    def key(self, number: int, place: int) -> tuple[int, int]:
        """(position, pass) of the image at a place of a pass."""
        if number != self._pass:
            order = generator(self._seed, self._purpose, number).permutation(len(self))
            self._order, self._pass = self._positions[order], number
        return int(self._order[place]), number


def _spread(images: list, negatives: list) -> list:
    """Both in one list, the negatives at even distances: the parts that processes take of it hold alike shares."""
    total, left, right = len(images) + len(negatives), iter(images), iter(negatives)
    turns = [(row + 1) * len(negatives) // total - row * len(negatives) // total for row in range(total)]
    return [next(right if turn else left) for turn in turns]
