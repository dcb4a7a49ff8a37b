"""`python -m bench.peak`: how near SFC step and CAM inference come to matrix products alone, and where time goes."""

from __future__ import annotations

import statistics
from collections.abc import Callable

import click
import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from bench import localization, public_step
from bench.measure import known_device, machine, seconds_of
from sfc.memory import keep_freed_memory

SIDES = {"tiny": (64, 128), "small": (1024, 2048), "full": (1024, 2048, 4096)}
LINES = 10
PARTS = {  # row of the table -> what its form of ours does
    "sfc-step": "SFC training step",
    "cam-inference": "CAM inference, one scale and flip",
}
ROWS = {row.name: row for row in (*public_step.ROWS, *localization.ROWS)}


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--scale", type=click.Choice(list(SIDES)), default="small", show_default=True, help="As of bench.")
@click.option("--device", default="cpu", show_default=True, help="A torch device.")
@click.option("--repeats", type=click.IntRange(min=1), default=5, show_default=True, help="Timed runs of each part.")
def main(scale: str, device: str, repeats: int) -> None:
    """Share of the measured peak of matrix products, and where the rest of the time goes.

    The peak is the best of square products of several sizes in the same precision, measured in the same run. What a
    part computes is counted in its convolutions and matrix products, forward and backward.
    """
    keep_freed_memory()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    target = known_device(device)
    click.echo(f"{machine(target)}, scale {scale}, {repeats} repeats")
    for bf16 in (False, True):
        name = "bf16" if bf16 else "fp32"
        peak = matmul_peak(target, SIDES[scale], torch.bfloat16 if bf16 else torch.float32, repeats)
        click.echo(f"\n{name}: square matrix products reach {peak / 1e9:,.0f} GFLOP/s")
        for part, what in PARTS.items():
            row = ROWS[f"{part}-{name}"]
            run = row.build(target, **row.sizes[scale]).ours
            operations, seconds = flops(run), _median(run, target, repeats)
            share = 100 * operations / seconds / peak
            click.echo(
                f"\n{what}, {name}: {1000 * seconds:,.0f} ms, {operations / 1e9:,.0f} GFLOP, "
                f"{operations / seconds / 1e9:,.0f} GFLOP/s, {share:.0f} % of the peak"
            )
            for share, calls, operation in hottest(run, target):
                click.echo(f"  {100 * share:5.1f} %  {operation} ({calls} calls)")


def matmul_peak(device: torch.device, sides: tuple[int, ...], dtype: torch.dtype, repeats: int) -> float:
    """Most operations a second of square matrix products, an addition and a multiplication each counted."""
    best = 0.0
    for side in sides:
        a, b = (torch.rand(side, side, device=device).to(dtype) for _ in range(2))
        product = torch.mm(a, b)
        for _ in range(repeats):
            best = max(best, 2 * side**3 / seconds_of(lambda a=a, b=b, out=product: torch.mm(a, b, out=out), device))
    return best


def flops(run: Callable[[], tuple]) -> int:
    """Operations in the convolutions and matrix products of one run, those of the backward pass included."""
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def hottest(run: Callable[[], tuple], device: torch.device) -> list[tuple[float, int, str]]:
    """(share of the time, calls, operation) of the `LINES` operations that take most of one run, themselves alone."""
    on_gpu = device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with profile(activities=activities, acc_events=True) as profiled:
        run()
    attribute = "self_device_time_total" if on_gpu else "self_cpu_time_total"
    rows = [(getattr(row, attribute), row.count, row.key) for row in profiled.key_averages()]
    total = sum(row[0] for row in rows) or 1
    return [(taken / total, calls, operation) for taken, calls, operation in sorted(rows, reverse=True)[:LINES]]


def _median(run: Callable[[], tuple], device: torch.device, repeats: int) -> float:
    run()
    return statistics.median(seconds_of(run, device) for _ in range(repeats))


if __name__ == "__main__":
    main()
