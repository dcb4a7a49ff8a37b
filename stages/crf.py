"""Stage crf: labels from the CAMs by a dense CRF, and the confident ones that IRN's network learns from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from sfc.config import Crf, Fusion
from sfc.data.images import IGNORE, read_record
from sfc.data.manifest import Record, label_keys, read_manifest
from sfc.data.pool import ordered_map
from sfc.dense_crf import refine_cams
from sfc.fusion import check_weights, fuse, normalise_scales
from sfc.label_archive import LabelArchiveWriter
from sfc.localization.store import CamStore
from stages._stage import Param, output, progress, say, stage, workers, write_json


@dataclass(frozen=True)
class _Refine:
    """What a worker process does with one image."""

    cams: CamStore
    fusion: Fusion
    crf: Crf

    def __call__(self, record: Record) -> tuple[np.ndarray, np.ndarray]:
        normalised = normalise_scales(self.cams.fused_of(record), (record.height, record.width))
        fused = fuse(normalised, self.cams.fused, **self.fusion.model_dump()).numpy()
        return refine_cams(read_record(record), fused, label_keys(record.labels), **self.crf.model_dump())


@stage(
    "Refine the CAMs of the train split by a dense CRF; mark what is confident.",
    reads="out/manifest.csv, out/classes.json, out/cams/, the train images",
    writes="out/crf.zip, out/confident.zip, metrics/crf.json",
)
def main(fusion: Annotated[Fusion, Param("fusion.{method}.crf")], crf: Crf) -> str:
    records = read_manifest("out/manifest.csv", "out/classes.json").split("train")
    cams = CamStore("out/cams")
    check_weights(cams.fused, fusion.weights)
    refine = _Refine(cams, fusion, crf)
    say(f"crf: {len(records):,} images, {crf.iterations} iterations each")

    counts = np.zeros(IGNORE + 1, dtype=np.int64)
    with (
        output("out/crf.zip") as crf_path,
        output("out/confident.zip") as confident_path,
        LabelArchiveWriter(crf_path) as crf_labels,
        LabelArchiveWriter(confident_path) as confident_labels,
    ):
        results = ordered_map(refine, records, workers=workers())
        for record, maps in zip(records, progress(results, total=len(records), label="CRF"), strict=True):
            refined, confident = maps
            crf_labels.write(record.id, refined)
            confident_labels.write(record.id, confident)
            counts += np.bincount(confident.ravel(), minlength=len(counts))
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
    return f"crf: {len(records):,} label maps to out/crf.zip and as many confident ones to out/confident.zip"


if __name__ == "__main__":
    main()
