"""`python -m bench.growth`: seconds and memory of what touches every image, for more and more synthetic images.

Records are real, images are not: all of them show one file of 24 x 32 pixels, and CAMs and label maps are as small.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import click
import numpy as np
import torch
from PIL import Image

from bench import markdown
from bench.measure import machine, peak_of, resident
from sfc.data.images import palette_png
from sfc.data.manifest import Manifest, Record, read_manifest, write_manifest, write_tuning
from sfc.label_archive import LabelArchive
from sfc.localization.store import CamStore, CamWriter, empty_maps
from sfc.params import read_text, read_yaml
from stages import evaluate, label_stats
from stages._labels import LabelShards, label_shards
from stages._presets import preset_paths
from stages._scratch import Scratch

ROOT = Path(__file__).resolve().parents[1]
SIZE = (24, 32)
SCALES = {1.0: (6, 8), 0.5: (3, 4), 1.5: (9, 12), 2.0: (12, 16)}
CLASSES = tuple(f"class{number}" for number in range(20))
MANIFEST = ("out/manifest.csv", "out/classes.json")


class Taken(NamedTuple):
    """Seconds by the clock and of the processor, and peak MiB beyond the start."""

    seconds: float
    processor: float
    peak: float


def _write_manifest(images: int) -> None:
    image, mask = Path("image.png"), Path("mask.png")
    label = np.zeros(SIZE, np.uint8)
    label[4:20, 8:24] = 1
    Image.fromarray(np.repeat(label[:, :, None], 3, 2) * 200).save(image)
    mask.write_bytes(palette_png(label))
    records = (
        Record(f"{n:012d}", "train", image, mask, *SIZE, tuple(sorted({n % 20, n * 7 % 20})), f"{n:016x}", "table")
        for n in range(images)
    )
    Path("out").mkdir(exist_ok=True)
    write_manifest(Manifest(tuple(records), CLASSES), *MANIFEST)
    write_tuning((), "out/tuning.json")
    values = read_yaml(read_text(preset_paths()["voc12"]), source="voc12")
    values["evaluate"]["class_sets"] = {}
    Path("params.yaml").write_text(json.dumps(values), encoding="utf-8")


def _records() -> list[Record]:
    return read_manifest(*MANIFEST).split("train")


def _write_cams(images: int) -> None:
    kinds, folder = ("classifier", "prototype"), Path("out/cams")
    folder.mkdir()
    records = _records()
    writer = CamWriter(folder, kinds=kinds, fused=kinds, scales=list(SCALES), ids=[record.id for record in records])
    noise = np.random.default_rng(0).random((2, 3, 12, 16), np.float32)
    for record in records:
        writer.write(record.id, [noise[:, : 1 + len(record.labels), :h, :w].copy() for h, w in SCALES.values()])
    writer.finish()


def _read_cams(images: int) -> None:
    store, ids = CamStore("out/cams"), [record.id for record in _records()]
    for id in ids:
        store.read(id)


def _read_cams_shuffled(images: int) -> None:
    store, ids = CamStore("out/cams"), [record.id for record in _records()]
    random.Random(0).shuffle(ids)
    for id in ids:
        store.read(id)


def _write_labels(images: int) -> None:
    records = _records()
    with Scratch("crf", sections=[], inputs=[]) as scratch:
        shards = LabelShards(scratch, label_shards([[record] for record in records]), {"crf": "out/crf.zip"})
        shards.write((record.id, [_label(record)]) for batch in shards.batches for record in batch)
        shards.join([record.id for record in records], counted="crf")


def _label(record: Record) -> np.ndarray:
    label = np.zeros(SIZE, np.uint8)
    label[6:18, 8:20] = 1 + record.labels[0]
    return label


def _read_labels(images: int) -> None:
    archive = LabelArchive("out/crf.zip")
    for id in archive.ids:
        archive.read(id)


def _evaluate(product: str) -> Callable[[int], None]:
    return lambda images: evaluate.main.callback(product=product)


def _dvc_files(images: int) -> None:
    """One file an image, each of other bytes, in a repository of its own."""
    folder = Path("dvc")
    (folder / "data").mkdir(parents=True)
    for number in range(images):
        (folder / "data" / f"{number:012d}.jpg").write_bytes(number.to_bytes(8, "big") * 64)
    for command in (["git", "init", "-q"], [sys.executable, "-m", "dvc", "init", "-q"]):
        subprocess.run(command, cwd=folder, check=True)


def _dvc(*arguments: str) -> Callable[[int], float]:
    """A command of DVC's own process; gives its peak MiB."""

    def run(images: int) -> float:
        command = [sys.executable, "-m", "dvc", *arguments]
        process = subprocess.Popen(command, cwd="dvc", stdout=subprocess.DEVNULL)
        peak = 0.0  # asked again and again: what the kernel says after the end has this process's own in it
        while process.poll() is None:
            with suppress(OSError, StopIteration):
                peak = resident("VmHWM", process.pid)
            time.sleep(0.05)
        if process.returncode:
            raise click.ClickException(f"dvc {' '.join(arguments)} failed")
        return peak

    return run


PARTS: dict[str, Callable[[int], object]] = {  # in this order: each finds what those before it have left
    "manifest: write": _write_manifest,
    "manifest: read": lambda images: _records(),
    "label_stats": lambda images: label_stats.main.callback(labels=None, split=None),
    "CAM store: write": _write_cams,
    "CAM store: read in order": _read_cams,
    "CAM store: read in any order": _read_cams_shuffled,
    "CAM store: empty maps": lambda images: empty_maps(CamStore("out/cams")),
    "label archive: write in shards, join": _write_labels,
    "label archive: read": _read_labels,
    "evaluate cam": _evaluate("cam"),
    "evaluate crf": _evaluate("crf"),
    "dvc: files written for it": _dvc_files,
    "dvc add": _dvc("add", "-q", "data"),
    "dvc status": _dvc("status", "-q"),
    "dvc checkout": _dvc("checkout", "-q"),
}


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--images",
    type=click.IntRange(min=1),
    multiple=True,
    default=[10_000, 100_000],
    show_default=True,
    help="How many; each in turn.",
)
@click.option("--only", multiple=True, type=click.Choice(list(PARTS)), help="These parts, and those they rest on.")
@click.option(
    "--run",
    type=click.Choice(list(PARTS)),
    hidden=True,
    help="In this folder, for another process: the part to measure.",
)
def main(images: tuple[int, ...], only: tuple[str, ...], run: str | None) -> None:
    """Time what touches every image and take its peak memory beyond the start, each part in a process of its own.

    "growth" is how many times the processor's seconds of the first number of images the last one takes, by that many
    images more: 1 is linear, and less where there is a start that costs the same for all.
    """
    if run is not None:
        click.echo(json.dumps(_measured(run, images[0])))
        return
    click.echo(f"{machine(torch.device('cpu'))}\n")
    found = {count: _in_folder(count, only) for count in images}
    columns = ["part", *(f"s, {count:,}" for count in images), "growth", *(f"MiB, {count:,}" for count in images)]
    click.echo(markdown.head(columns))
    first, last = found[images[0]], found[images[-1]]
    for part in first:
        growth = last[part].processor / first[part].processor / (images[-1] / images[0])
        taken = [found[count][part] for count in images]
        cells = [*(f"{t.seconds:.1f}" for t in taken), f"{growth:.2f}", *(f"{t.peak:,.0f}" for t in taken)]
        click.echo(markdown.row([part, *cells]))


def _in_folder(images: int, only: tuple[str, ...]) -> dict[str, Taken]:
    """What each part takes for a number of images, in a folder that is then taken away."""
    wanted = [part for part in PARTS if not only or part in only or "write" in part]
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for part in wanted:
            command = [sys.executable, "-m", "bench.growth", "--images", str(images), "--run", part]
            paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
            environment = {**os.environ, "PYTHONPATH": paths}
            done = subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, check=True)
            found[part] = taken = Taken(*json.loads(done.stdout.splitlines()[-1]))
            click.echo(
                f"{images:,} images, {part}: {taken.seconds:.1f} s ({taken.processor:.1f} s of a core), "
                f"{taken.peak:,.0f} MiB",
                err=True,
            )
    return found


def _measured(part: str, images: int) -> Taken:
    """What a part takes in this process, or in the one that it starts."""
    given: list[object] = []
    before, started = os.times(), time.perf_counter()
    own = peak_of(lambda: given.append(PARTS[part](images)), torch.device("cpu"))
    seconds, after = time.perf_counter() - started, os.times()
    theirs = [peak for peak in given if isinstance(peak, float)]
    return Taken(seconds, sum(after[:4]) - sum(before[:4]), *theirs or [own or 0.0])


if __name__ == "__main__":
    main()
