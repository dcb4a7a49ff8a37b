"""The training loop of all three networks: batches in, losses down, a curve out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from sfc.errors import UserError
from sfc.training import distributed
from sfc.training.checkpoint import Checkpoint


class Stopped(Exception):  # noqa: N818 - no error
    """A training was asked to end before its last step; `step` is where the next start goes on, None if it cannot."""

    def __init__(self, step: int | None):
        super().__init__(step)
        self.step = step


def train(
    objective: nn.Module,
    *,
    batches: Callable[[int], Iterator[dict[str, Tensor]]],
    steps: int,
    optimiser: torch.optim.Optimizer,
    lr_factor: Callable[[int], float],
    clip_norm: float | None,
    precision: str,
    device: torch.device,
    checkpoint: Checkpoint | None,
    progress: Callable[..., Iterable],
    watch: Callable[[dict[str, float]], None] | None = None,
    stop: Callable[[], bool] | None = None,
    log_every: int = 10,
) -> list[dict[str, float]]:
    """Train `objective` in place for `steps` steps, or for what is left of them after the checkpoint.

    Args:
        objective: called with one batch on `device`, returns named scalars; "loss" is minimised, the others are its
            parts or whatever else makes a curve. The average over processes of each must be its value on the global
            batch (see `distributed.global_mean`).
        batches: `batches(first_step)` yields this process's batches from that step on.
        lr_factor: each group's lr at step s is its initial lr times `lr_factor(s)`.
        clip_norm: largest global gradient norm; None for no clipping.
        precision: "bf16" runs the objective under bfloat16 autocast, "fp32" does not.
        progress: wraps an iterable of known `total`, e.g. with a progress bar.
        watch: called with each row of the curve when it is there.
        stop: asked after each step whether to save a checkpoint and end; of several processes the main one alone
            listens, and the others lose touch with it.
        log_every: steps in one row of the curve.

    Returns:
        Rows {"step", one mean a name}; a row holds the means of the `log_every` steps before `step`.

    Raises:
        UserError: a loss is not finite.
        Stopped: `stop` said so.
    """
    run = _Run(objective, optimiser, log_every, watch)
    first = run.resume(checkpoint)
    model = _parallel(objective, device)
    objective.train()
    initial_lr = [group.setdefault("initial_lr", group["lr"]) for group in optimiser.param_groups]
    with closing(batches(first)) if first < steps else nullcontext() as feed:
        for step in progress(range(first, steps), total=steps - first, label="training"):
            batch = {name: value.to(device, non_blocking=True) for name, value in next(feed).items()}
            factor = lr_factor(step)
            for group, lr in zip(optimiser.param_groups, initial_lr, strict=True):
                group["lr"] = lr * factor
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16"):
                losses = model(batch)
            optimiser.zero_grad(set_to_none=True)
            losses["loss"].backward()
            if clip_norm is not None:
                nn.utils.clip_grad_norm_(objective.parameters(), clip_norm)
            optimiser.step()
            run.log(step + 1, losses, last=step + 1 == steps)
            if step + 1 < steps and distributed.is_main():
                run.keep(step + 1, checkpoint, ending=stop is not None and stop())
    return run.rows


class _Run:
    """What a run must carry over a restart: model, optimiser, step, curve and the sums of the open row."""

    def __init__(
        self,
        objective: nn.Module,
        optimiser: torch.optim.Optimizer,
        log_every: int,
        watch: Callable[[dict[str, float]], None] | None,
    ):
        self._objective, self._optimiser, self._log_every, self._watch = objective, optimiser, log_every, watch
        self.rows: list[dict[str, float]] = []
        self._sums: Tensor | None = None
        self._count = 0

    def log(self, step: int, losses: dict[str, Tensor], *, last: bool) -> None:
        """Add up on the device; the host of a GPU looks, and waits, only once a row.

        Averaged at every step, the sums are those of all processes: the main one alone saves them.
        """
        values = distributed.average(torch.stack([value.detach().float() for value in losses.values()]))
        self._sums = values if self._sums is None else self._sums + values
        self._count += 1
        if step % self._log_every and not last:
            return
        means = (self._sums / self._count).tolist()
        self.rows.append({"step": step, **dict(zip(losses, means, strict=True))})
        self._sums, self._count = None, 0
        if not all(math.isfinite(value) for value in means):
            raise UserError(
                f"a loss is not finite at step {step}: {self.rows[-1]}; lower lr, or set precision to fp32 to find out"
            )
        if self._watch is not None:
            self._watch(self.rows[-1])

    def keep(self, step: int, checkpoint: Checkpoint | None, *, ending: bool) -> None:
        """Save a checkpoint where it is time, or before the end."""
        saved = False
        if checkpoint is not None and (ending or checkpoint.due()):
            saved = checkpoint.save(self.state(step))
        if ending:
            raise Stopped(step if saved else None)

    def state(self, step: int) -> dict:
        return {
            "step": step,
            "objective": self._objective.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "rows": self.rows,
            "sums": self._sums,
            "count": self._count,
        }

    def resume(self, checkpoint: Checkpoint | None) -> int:
        """Load the checkpoint's state and return the step to go on from; 0 where there is none.

        The main process chooses the state, since other experiments may save and clear away meanwhile.
        """
        if checkpoint is None:
            return 0
        state = checkpoint.load() if distributed.is_main() else None
        step = distributed.from_main(None if state is None else state["step"])
        if step is None:
            return 0
        if state is None and (state := checkpoint.load(step)) is None:
            raise UserError(f"the processes do not see one scratch checkpoint of step {step}; start again")
        self._objective.load_state_dict(state["objective"])
        self._optimiser.load_state_dict(state["optimiser"])
        self.rows, self._count = state["rows"], state["count"]
        device = next(self._objective.parameters()).device
        self._sums = None if state["sums"] is None else state["sums"].to(device)
        checkpoint.resumed(step)
        return step


def synchronised(objective: nn.Module) -> nn.Module:
    """Batch norm over all processes' samples; torch's own conversion drops the activation timm's batch norms hold."""
    if any(isinstance(m, nn.BatchNorm2d) and hasattr(m, "act") for m in objective.modules()):
        from timm.layers import convert_sync_batchnorm  # optional, and there if the objective has such layers

        return convert_sync_batchnorm(objective)
    return nn.SyncBatchNorm.convert_sync_batchnorm(objective)


def _parallel(objective: nn.Module, device: torch.device) -> nn.Module:
    if distributed.world_size() == 1:
        return objective
    objective.train()
    if any(isinstance(m, nn.BatchNorm2d) and m.training for m in objective.modules()):
        if device.type != "cuda":
            raise UserError(
                "batch norm that learns (backbone.batch_norm: train, seg.model: largefov) needs the statistics of the "
                "whole batch, which several CPU processes cannot share; start one process"
            )
        objective = synchronised(objective)
    return DistributedDataParallel(
        objective, device_ids=[device] if device.type == "cuda" else None, broadcast_buffers=False
    )
