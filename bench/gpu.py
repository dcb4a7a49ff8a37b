"""`python -m bench.gpu`: the GPU's stages at the paper's sizes, and from them the wall time of the whole VOC run."""

from __future__ import annotations

import gc
import io
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import click
import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from bench import markdown, reckoning
from bench.gpu_parts import CLASSES, PARTS, PRESENT, Part
from bench.inputs import regions, smooth, uniform
from bench.loading import images_a_second
from bench.measure import MIB, machine, resident
from bench.sizes import IMAGE, params_at
from sfc.data.images import decode_image, palette_png
from sfc.dense_crf import crf_probabilities, refine_cams
from sfc.errors import UserError
from sfc.memory import keep_freed_memory
from sfc.params import Params
from stages._errors import errors_as_lines
from stages._stage import workers

_PEAK_SIDE = {"tiny": 256, "small": 1024, "full": 8192}
_SECONDS = {"tiny": 0.1, "small": 1.0, "full": 4.0}  # of each measurement, about
_PHOTOGRAPHS = {"tiny": 6, "small": 32, "full": 256}


@dataclass(frozen=True)
class Timed:
    """Seconds and FLOPs a repetition, peak MiB of the device."""

    seconds: float
    flops: int
    peak: float | None


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--scale", type=click.Choice(list(IMAGE)), default="full", show_default=True, help="Full is VOC.")
@click.option("--device", type=click.Choice(["cuda", "cpu"]), default="cuda", show_default=True)
def main(scale: str, device: str) -> None:
    """Measure the GPU's stages in their own precision, their loaders alone, and reckon the whole VOC run."""
    keep_freed_memory()
    with errors_as_lines():
        target = torch.device(device)
        if target.type == "cuda" and not torch.cuda.is_available():
            raise UserError(f"--device {device}: torch sees no GPU here; --device cpu --scale tiny tries the program")
        click.echo(f"{machine(target)}, {os.cpu_count()} cores, scale {scale}\n")
        for line in lines(target, scale):
            click.echo(line)


def lines(device: torch.device, scale: str) -> Iterator[str]:
    """Markdown, line by line as it is measured."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False  # as in every stage
    params, seconds = params_at(scale), _SECONDS[scale]
    peak = matrix_peak(device, _PEAK_SIDE[scale], seconds)
    yield f"Largest bf16 matrix product measured: {peak / 1e12:,.2f} TFLOP/s.\n"
    yield markdown.head(("stage", "what", "ms a step or image", "images/s", "TFLOP/s", "share of peak", "peak MiB"))
    timed = {}
    for stage, build in PARTS.items():
        part = build(params, device, IMAGE[scale])
        found = measured(part, device, seconds)
        part = replace(part, run=None, trunk=None)  # else its memory would count as the next one's
        timed[stage] = part, found
        yield _row(part, found, peak)
    yield f"\nData loading alone, {workers()} workers, {_PHOTOGRAPHS[scale]} photographs:\n"
    loading = _loading(params, device, scale, seconds)
    yield markdown.head(("stage", "images/s loaded", "images/s of the device", "limit"))
    for stage, rate in loading.items():
        part, found = timed[stage]
        used = part.images / found.seconds
        yield markdown.row((stage, f"{rate:,.0f}", f"{used:,.0f}", "loading" if rate < used else "device"))
    yield "\nThe whole VOC run, reckoned (the released constants at this scale's sizes):\n"
    core = core_seconds(params, IMAGE[scale])
    yield from reckoning.table(_stages(params, timed, loading, core), cores=os.cpu_count() or 1, start=_start())
    if "crf" not in core:
        yield "\nWithout the dense CRF: pydensecrf is not installed here."
    # last: compiling takes minutes, and what is above is worth having where the time is up
    yield "\ntorch.compile of the trunk, where sizes do not change:\n"
    yield markdown.head(("stage", "form", "start-up s", "ms a step", "ms without", "pays in the whole run"))
    for stage in ("train_cam", "train_irn"):
        for name, how in compiled_forms(device).items():
            part = PARTS[stage](params, device, IMAGE[scale])
            yield _compiled(part, device, name, how, timed[stage][1], reckoning.units(params)[stage], seconds)


def matrix_peak(device: torch.device, side: int, seconds: float) -> float:
    """FLOP/s of a bf16 product of square matrices, the best of five runs."""
    a, b = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))

    def run(count: int) -> None:
        for _ in range(count):
            torch.mm(a, b)

    return 2 * side**3 / min(_seconds(run, device, seconds / 5) for _ in range(5))


def measured(part: Part, device: torch.device, seconds: float) -> Timed:
    """A part's time, FLOPs and peak; it has run before."""
    part.run(2)
    with FlopCounterMode(display=False) as counter:
        part.run(1)
    # the counter takes the walk's sparse products for dense ones, a thousand times the work; nothing else here adds
    sparse = counter.get_flop_counts()["Global"].get(torch.ops.aten.addmm, 0)
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    taken = _seconds(part.run, device, seconds)
    return Timed(taken, counter.get_total_flops() - sparse, _peak(device))


def compiled_forms(device: torch.device) -> dict[str, dict]:
    """torch.compile's arguments by name; on a CPU the graph is made, but not compiled, which takes minutes."""
    if device.type == "cuda":
        return {"compile": {}, "compile, CUDA graphs": {"mode": "reduce-overhead"}}
    return {"graph alone": {"backend": "aot_eager"}}


def _compiled(part: Part, device, name: str, how: dict, plain: Timed, count: int, seconds: float) -> str:
    part.trunk.compile(**how)
    started = time.perf_counter()
    try:
        part.run(3)
        _wait(device)
        start_up = max(0.0, time.perf_counter() - started - 3 * plain.seconds)
        taken = _seconds(part.run, device, seconds)
    except Exception as error:  # whatever a compiler meets, the other rows are worth having
        return f"| {part.stage} | {name} | - | - | {1000 * plain.seconds:,.1f} | {type(error).__name__} |"
    finally:
        torch._dynamo.reset()
    pays = reckoning.pays(plain.seconds, taken, start_up, count)
    figures = f"{start_up:,.1f} | {1000 * taken:,.1f} | {1000 * plain.seconds:,.1f}"
    return f"| {part.stage} | {name} | {figures} | {'yes' if pays else 'no'} |"


def _loading(params: Params, device: torch.device, scale: str, seconds: float) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        return images_a_second(
            params,
            Path(folder),
            size=IMAGE[scale],
            photographs=_PHOTOGRAPHS[scale],
            seconds=seconds,
            workers=workers(),
            device=device,
        )


def _stages(
    params: Params, timed: dict, loading: dict[str, float], core: dict[str, float]
) -> dict[str, reckoning.Measured]:
    """What `reckoning` needs of every stage, those of the CPU among them."""
    host = {"crf": core.get("crf", 0.0), "predict": core.get("predict", 0.0) * params.get("predict").crf.enabled}
    # the walk reads its images itself, batch by batch, and every stage that makes label maps writes them itself
    serial = {"crf": 2 * core["write"], "pseudo_labels": core["read"] + core["write"], "predict": core["write"]}
    stages = {}
    for stage, count in reckoning.units(params).items():
        device, loaded = 0.0, 0.0
        if stage in timed:
            part, found = timed[stage]
            device = found.seconds / part.units
            loaded = part.images / part.units / loading[stage] if stage in loading else 0.0
        stages[stage] = reckoning.Measured(count, device, loaded, host.get(stage, 0.0), serial.get(stage, 0.0))
    return stages


def core_seconds(params: Params, size: tuple[int, int]) -> dict[str, float]:
    """Seconds an image on one core: reading, writing a label map, the stage crf, predict's CRF among four classes.

    Without the two of the CRF where pydensecrf is not installed.
    """
    picture = smooth(1, 3, *size)[0] * 220 + uniform(3, *size) * 35
    image = picture.permute(1, 2, 0).to(torch.uint8).numpy()
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=90)
    label = regions(1, 4, *size)[0]
    cams = smooth(1, 1 + len(PRESENT), *size)[0].numpy()
    sharp = torch.nn.functional.one_hot(label.long(), 1 + CLASSES).permute(2, 0, 1)
    probabilities = (0.9 * sharp + 0.1 / (1 + CLASSES)).numpy()
    keys = (0, *(1 + present for present in PRESENT))
    work = {
        "read": lambda: decode_image("image", file.getvalue()),
        "write": lambda: palette_png(label.numpy()),
        "crf": lambda: refine_cams(image, cams, keys, **params.get("crf").model_dump()),
        "predict": lambda: crf_probabilities(
            image, probabilities, **params.get("predict").crf.model_dump(exclude={"enabled"})
        ),
    }
    cpu, found = torch.device("cpu"), {}
    for name, do in work.items():
        with suppress(UserError):
            found[name] = _seconds(lambda count, do=do: [do() for _ in range(count)], cpu, 1.0)
    return found


def _start() -> float:
    """Seconds that a stage needs to start: its imports, measured, in a process of its own."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import stages.train_cam"], check=True)
    return time.perf_counter() - started


def _row(part: Part, found: Timed, peak: float) -> str:
    rate = found.flops / found.seconds
    cells = (
        part.stage,
        part.what,
        f"{1000 * found.seconds / part.units:,.1f}",
        f"{part.images / found.seconds:,.1f}",
        f"{rate / 1e12:,.2f}",
        f"{100 * rate / peak:.0f} %",
        "" if found.peak is None else f"{found.peak:,.0f}",
    )
    return markdown.row(cells)


def _seconds(run: Callable[[int], object], device: torch.device, seconds: float) -> float:
    """Seconds a repetition, from as many as take about that long."""
    run(1)
    once = _taken(run, device, 1)
    count = max(1, min(1000, round(seconds / max(once, 1e-6))))
    return _taken(run, device, count) / count


def _taken(run: Callable[[int], object], device: torch.device, count: int) -> float:
    _wait(device)
    started = time.perf_counter()
    run(count)
    _wait(device)
    return time.perf_counter() - started


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _peak(device: torch.device) -> float | None:
    """Peak MiB of the device, or of this process so far."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / MIB
    try:
        return resident("VmHWM")
    except OSError:
        return None


if __name__ == "__main__":
    main()
