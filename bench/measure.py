"""How a part and its plain form are compared: alternating runs, median seconds, peak memory, largest difference."""

from __future__ import annotations

import ctypes
import gc
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import torch

_CLEAR = Path("/proc/self/clear_refs")
_RESET_PEAK = "5"  # what clear_refs takes to set VmHWM back to VmRSS
MIB = 1 << 20


def known_device(name: str) -> torch.device:
    """The torch device of that name; click's one line where torch has none here."""
    try:
        torch.zeros(1, device=(device := torch.device(name)))
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        why = str(error).splitlines()[0]
        raise click.BadParameter(f"{name!r} is no device that torch sees here ({why})", param_hint="--device") from None
    return device


@dataclass(frozen=True)
class Pair:
    """Both forms of a part on the same inputs; each returns its tensors or arrays, in the same order.

    Attributes:
        peaks: peak MiB of the plain form and of ours, for forms that run in other processes.
        close: called when all is measured.
    """

    plain: Callable[[], tuple]
    ours: Callable[[], tuple]
    peaks: Callable[[], tuple[float | None, float | None]] | None = None
    close: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        what: plain form and ours, in words.
        build: makes the inputs, from a device and one of `sizes`.
        sizes: keyword arguments of `build` for each scale: tiny (tests), small, full (VOC).
        tolerance: largest `difference` with which the forms are said to agree.
        cpu_only: the part has no other form.
    """

    name: str
    what: str
    build: Callable[..., Pair]
    sizes: Mapping[str, dict[str, Any]]
    tolerance: float
    cpu_only: bool = False


@dataclass(frozen=True)
class Measured:
    """Median seconds, peak MiB beyond what was in use before (None where it cannot be read), `difference`."""

    plain: float
    ours: float
    plain_peak: float | None
    ours_peak: float | None
    difference: float


def measure(row: Row, *, scale: str, device: torch.device, repeats: int) -> Measured:
    """Run both forms in turn: once to warm up and to compare, `repeats` times for time, once for memory."""
    device = torch.device("cpu") if row.cpu_only else device
    pair = row.build(device, **row.sizes[scale])
    try:
        apart = difference(pair.plain(), pair.ours())
        seconds = ([], [])
        for _ in range(repeats):
            for form, taken in zip((pair.plain, pair.ours), seconds, strict=True):
                taken.append(seconds_of(form, device))
        peaks = pair.peaks() if pair.peaks else (peak_of(pair.plain, device), peak_of(pair.ours, device))
    finally:
        pair.close()
    return Measured(*map(statistics.median, seconds), *peaks, apart)


def difference(plain: tuple, ours: tuple) -> float:
    """Largest difference of an element, each array's relative to the largest element of its plain form.

    NaN anywhere, and different shapes, make it infinite.
    """
    worst = 0.0
    for wanted, found in zip(plain, ours, strict=True):
        wanted, found = (torch.as_tensor(x).detach().double().cpu() for x in (wanted, found))
        if wanted.shape != found.shape or wanted.isnan().any() or found.isnan().any():
            return float("inf")
        worst = max(worst, float((wanted - found).abs().max() / wanted.abs().max().clamp_min(1e-30)))
    return worst


def seconds_of(form: Callable[[], object], device: torch.device) -> float:
    """Seconds of one run, with all that it left to the device."""
    _wait(device)
    started = time.perf_counter()
    form()
    _wait(device)
    return time.perf_counter() - started


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_of(form: Callable[[], object], device: torch.device) -> float | None:
    """Peak MiB during one run: of the device's allocator, or of this process's resident memory (Linux)."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        form()
        _wait(device)
        return (torch.cuda.max_memory_allocated(device) - before) / MIB
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)  # memory freed earlier would serve this run unseen
        _CLEAR.write_text(_RESET_PEAK)
        before = resident("VmRSS")
        form()
        return max(0.0, resident("VmHWM") - before)
    except OSError:
        return None


def resident(field: str, process: int | str = "self") -> float:
    """MiB of a process's resident memory: VmRSS now, VmHWM at its peak; raises OSError where there is no /proc."""
    status = Path(f"/proc/{process}/status")
    line = next(line for line in status.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) / 1024


def machine(device: torch.device) -> str:
    """CPU model and threads, or GPU name; torch version."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    else:
        name = f"{_cpu_model()}, {torch.get_num_threads()} threads"
    return f"{name}, torch {torch.__version__}"


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
