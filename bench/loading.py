"""Data loading alone: how many images a second the stages' own loaders give, with nothing else at work."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from bench.gpu_parts import CLASSES, PRESENT
from bench.inputs import regions, smooth, uniform
from sfc.data.batches import batches
from sfc.data.crops import ImageCrops, LabelledCrops
from sfc.data.images import equal_sizes
from sfc.data.manifest import Record, label_matrix
from sfc.data.negatives import batch_mix
from sfc.data.read_ahead import read_ahead
from sfc.label_archive import LabelArchive, LabelArchiveWriter
from sfc.params import Params


def images_a_second(
    params: Params,
    folder: Path,
    *,
    size: tuple[int, int],
    photographs: int,
    seconds: float,
    workers: int,
    device: torch.device,
) -> dict[str, float]:
    """Images a second of each stage's loader.

    Args:
        folder: an empty one, for photographs and label maps.
        photographs: how many different ones; the files stay in the system's cache.
        seconds: for which each loader runs, after its first batches.
        workers: see `batches` and `read_ahead`.
    """
    records, labels = _records(folder, size, photographs)
    found = {}
    for stage, section in {"train_cam": "train_cam", "train_irn": "irn", "train_seg": "seg"}.items():
        values = params.get(section)
        if stage == "train_cam":
            crops = ImageCrops(records, CLASSES, crop=values.crop, long_side=values.long_side, seed=0)
        else:
            crops = LabelledCrops(records, labels.label_of, crop=values.crop, seed=0, **_augmentation(stage, values))
        size_of_batch = min(values.batch_size, photographs)
        mix = batch_mix(label_matrix(records, CLASSES), size_of_batch, None, section=section)
        feed = batches(crops, seed=0, mix=mix, first_step=0, steps=10**6, workers=workers, rank=0, world=1)
        found[stage] = _rate((len(batch["image"]) for batch in feed), seconds)
    for stage, section, scales in (
        ("infer_cam", "cam", params.get("cam").scales),
        ("predict", "predict", (params.get("seg").image_scale,)),
    ):
        endless = [*equal_sizes(records, params.get(section).batch_size)] * 10_000
        feed = read_ahead(endless, scales, device=device, workers=workers)
        found[stage] = _rate((len(batch) for batch, _ in feed), seconds)
    return found


def _augmentation(stage: str, values) -> dict:
    if stage == "train_irn":
        return {"rescale": values.rescale, "uniform": True, "image_scale": 1.0, "hsv_jitter": 0}
    uniform_draw = values.scale_draw == "uniform"
    return {"rescale": values.scales, "uniform": uniform_draw} | values.model_dump(
        include={"image_scale", "hsv_jitter"}
    )


def _rate(counts: Iterable[int], seconds: float) -> float:
    """Images a second of an endless feed, after two batches."""
    feed: Iterator[int] = iter(counts)
    for _ in islice(feed, 2):
        pass
    images, started = 0, time.perf_counter()
    while (taken := time.perf_counter() - started) < seconds or not images:
        images += next(feed)
    taken = time.perf_counter() - started
    feed.close()
    return images / taken


def _records(folder: Path, size: tuple[int, int], count: int) -> tuple[list[Record], LabelArchive]:
    """Photographs that are about as hard to decode as VOC's, with label maps."""
    records = []
    with LabelArchiveWriter(folder / "labels.zip") as writer:
        for number in range(count):
            picture = smooth(1, 3, *size, seed=number)[0] * 220 + uniform(3, *size, seed=number) * 35
            path = folder / f"{number}.jpg"
            Image.fromarray(picture.permute(1, 2, 0).to(torch.uint8).numpy()).save(path, quality=90)
            writer.write(str(number), np.ascontiguousarray(regions(1, 1 + len(PRESENT), *size)[0].numpy()))
            records.append(Record(str(number), "train", path, None, *size, PRESENT, "", "table"))
    return records, LabelArchive(folder / "labels.zip")
