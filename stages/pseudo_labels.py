"""Stage pseudo_labels: the labels the segmentation model learns from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import numpy as np
import torch

from sfc.config import PseudoLabels, Walk, WalkFusion
from sfc.data.images import IGNORE, equal_sizes
from sfc.data.manifest import Record, read_manifest
from sfc.label_archive import LabelArchive
from sfc.localization.store import CamStore
from sfc.training import distributed
from sfc.walk.pseudo_labels import IrnReader, refine_images
from stages._labels import LabelShards, label_shards
from stages._scratch import Scratch
from stages._stage import Param, device, progress, say, stage, workers, write_json


@stage(
    "Spread the CAMs of the train split over pixels that no edge divides, or take the CRF's labels over.",
    reads="out/manifest.csv, out/classes.json; out/cams/, out/irn.safetensors and the train images, or out/crf.zip",
    writes="out/pseudo_labels.zip, metrics/pseudo_labels.json",
)
def main(fusion: Annotated[WalkFusion, Param("fusion.{method}.walk")], walk: Walk, pseudo_labels: PseudoLabels) -> str:
    target = device()
    distributed.start(target)
    records = read_manifest("out/manifest.csv", "out/classes.json").split("train")
    made_from = ["out/cams", "out/irn.safetensors"] if pseudo_labels.refine == "irn" else ["out/crf.zip"]
    inputs = ["out/manifest.csv", "out/classes.json", *made_from]
    with Scratch("pseudo_labels", sections=[fusion, walk, pseudo_labels], inputs=inputs) as scratch:
        # Whole batches are shared out, so that their make-up, and the bytes, do not depend on the number of processes.
        shards = LabelShards(
            scratch, label_shards(equal_sizes(records, walk.batch_size)), {"labels": "out/pseudo_labels.zip"}
        )
        if pseudo_labels.refine == "irn":
            say(f"pseudo_labels: random walk of {walk.steps} steps in {len(records):,} images on {target}")
            labels = _walked(shards.batches, fusion, walk, target)
        else:
            say(f"pseudo_labels: {len(records):,} label maps as the CRF left them")
            archive = LabelArchive("out/crf.zip")
            labels = ((record.id, archive.read(record.id)) for batch in shards.batches for record in batch)
        shards.write((id, [label]) for id, label in progress(labels, total=shards.images, label="pseudo-labels"))
        counts = shards.join([record.id for record in records], counted="labels")
        if distributed.is_main():
            background, foreground = counts[0] / counts.sum(), counts[1:IGNORE].sum() / counts.sum()
            write_json(
                "metrics/pseudo_labels.json",
                {
                    "split": "train",
                    "images": len(records),
                    "images_without_class": sum(not record.labels for record in records),
                    "refine": pseudo_labels.refine,
                    "background": float(background),
                    "foreground": float(foreground),
                },
            )
    distributed.stop()
    return f"pseudo_labels: {len(records):,} label maps to out/pseudo_labels.zip"


def _walked(
    batches: list[list[Record]], fusion: WalkFusion, walk: Walk, target: torch.device
) -> Iterator[tuple[str, np.ndarray]]:
    rule = {"foreground_power", "background", "whole_power"}
    return refine_images(
        batches,
        CamStore("out/cams"),
        IrnReader(
            "out/irn.safetensors",
            scale=walk.scale,
            flip=walk.flip,
            precision=walk.precision,
            device=target,
        ),
        fusion=fusion.model_dump(exclude=rule),
        rule=walk.model_dump(include={"radius", "beta", "steps"}) | fusion.model_dump(include=rule),
        workers=workers(),
    )


if __name__ == "__main__":
    main()
