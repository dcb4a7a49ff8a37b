"""Stage crf: labels from the CAMs by a dense CRF, and the confident ones that IRN's network learns from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch

from sfc.config import Crf, Fusion
from sfc.data.images import IGNORE, read_record
from sfc.data.manifest import Record, label_keys, read_manifest
from sfc.data.pool import ordered_map
from sfc.dense_crf import refine_cams
from sfc.fusion import check_weights, fuse, normalise_scales
from sfc.localization.store import CamStore
from sfc.training import distributed
from stages._labels import LabelShards, label_shards
from stages._scratch import Scratch
from stages._stage import Param, progress, say, stage, workers, write_json


@dataclass(frozen=True)
class _Refine:
    """What a worker process does with one image."""

    cams: CamStore
    fusion: Fusion
    crf: Crf

    def __call__(self, record: Record) -> tuple[str, tuple[np.ndarray, np.ndarray]]:
        normalised = normalise_scales(self.cams.fused_of(record), (record.height, record.width))
        fused = fuse(normalised, self.cams.fused, **self.fusion.model_dump()).numpy()
        return record.id, refine_cams(read_record(record), fused, label_keys(record.labels), **self.crf.model_dump())


@stage(
    "Refine the CAMs of the train split by a dense CRF; mark what is confident.",
    reads="out/manifest.csv, out/classes.json, out/cams/, the train images",
    writes="out/crf.zip, out/confident.zip, metrics/crf.json",
)
def main(fusion: Annotated[Fusion, Param("fusion.{method}.crf")], crf: Crf) -> str:
    distributed.start(torch.device("cpu"))
    records = read_manifest("out/manifest.csv", "out/classes.json").split("train")
    cams = CamStore("out/cams")
    check_weights(cams.fused, fusion.weights)
    say(f"crf: {len(records):,} images, {crf.iterations} iterations each")

    inputs = ["out/manifest.csv", "out/classes.json", "out/cams"]
    with Scratch("crf", sections=[fusion, crf], inputs=inputs) as scratch:
        paths = {"crf": "out/crf.zip", "confident": "out/confident.zip"}
        shards = LabelShards(scratch, label_shards([[record] for record in records]), paths)
        mine = [record for batch in shards.batches for record in batch]
        refined = ordered_map(_Refine(cams, fusion, crf), mine, workers=workers())
        shards.write(progress(refined, total=len(mine), label="CRF"))
        counts = shards.join([record.id for record in records], counted="confident")
        if distributed.is_main():
            fractions = counts / counts.sum()
            write_json(
                "metrics/crf.json",
                {
                    "split": "train",
                    "images": len(records),
                    "images_without_class": sum(not record.labels for record in records),
                    "foreground": float(fractions[1:IGNORE].sum()),
                    "background": float(fractions[0]),
                    "ignored": float(fractions[IGNORE]),
                },
            )
    distributed.stop()
    return f"crf: {len(records):,} label maps to out/crf.zip and as many confident ones to out/confident.zip"


if __name__ == "__main__":
    main()
