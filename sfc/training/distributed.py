"""One process or many: the few collective operations training needs, each a no-op when there is one process."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from sfc.errors import UserError
from sfc.launch import launched

T = TypeVar("T")


def start(device: torch.device) -> None:
    """Join the process group that torchrun describes in the environment; nothing to do for a single process.

    Raises:
        UserError: the environment describes none that can be joined.
    """
    world = launched("WORLD_SIZE", 1)
    if world > 1 and not dist.is_initialized():
        if device.type == "cuda":
            torch.cuda.set_device(device)
        try:
            dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        except ValueError as error:  # a variable that torchrun sets is missing
            raise UserError(f"WORLD_SIZE={world}: {error}; start with torchrun, or unset it") from None


def stop() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def is_main() -> bool:
    return rank() == 0


def barrier() -> None:
    if dist.is_initialized():
        dist.barrier()


def from_main(value: T) -> T:
    """What the main process has, on all processes; small, since it is pickled."""
    if not dist.is_initialized():
        return value
    values = [value]
    dist.broadcast_object_list(values)
    return values[0]


def gathered(value: Any) -> list[Any]:
    """What each process has, in rank order, on the main one; an empty list on the others. It is pickled."""
    if not dist.is_initialized():
        return [value]
    values = [None] * world_size() if is_main() else None
    dist.gather_object(value, values)
    return values or []


def share(count: int) -> slice:
    """This process's contiguous part of `count` rows; sizes differ by at most one, larger parts first.

    Raises:
        UserError: fewer rows than processes.
    """
    world = world_size()
    if count < world:
        raise UserError(f"a batch of {count} cannot be shared by {world} processes; raise batch_size or start fewer")
    size, extra = divmod(count, world)
    first = rank() * size + min(rank(), extra)
    return slice(first, first + size + (rank() < extra))


def global_mean(total: Tensor, count: Tensor | int) -> Tensor:
    """A mean over all processes, as a loss.

    Args:
        total: this process's sum, a scalar or a row of sums; carries the gradient.
        count: how many terms are in it here, of the same shape.

    Returns:
        total * processes / (count over all processes): averaging it, or its gradients, over the processes gives
        the mean over all terms of the global batch. 0 where no process has a term.
    """
    count = torch.as_tensor(count, dtype=total.dtype, device=total.device).detach().clone()
    if dist.is_initialized():
        dist.all_reduce(count)
    return total * world_size() / count.clamp_min(1)


def average(values: Tensor) -> Tensor:
    """`values` averaged over the processes (for logging; no gradient)."""
    values = values.detach().clone()
    if dist.is_initialized():
        dist.all_reduce(values)
    return values / world_size()


def gather_rows(rows: Tensor) -> Tensor:
    """The rows of all processes, in rank order; their numbers of rows may differ by one."""
    if not dist.is_initialized():
        return rows
    counts = [torch.zeros(1, dtype=torch.int64, device=rows.device) for _ in range(world_size())]
    dist.all_gather(counts, torch.tensor([len(rows)], device=rows.device))
    longest = max(int(c) for c in counts)
    padded = torch.zeros(longest, *rows.shape[1:], dtype=rows.dtype, device=rows.device)
    padded[: len(rows)] = rows
    parts = [torch.empty_like(padded) for _ in range(world_size())]
    dist.all_gather(parts, padded)
    return torch.cat([part[: int(count)] for part, count in zip(parts, counts, strict=True)])
