"""Stage prepare: check the data set and write down what is in it."""

from __future__ import annotations

from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np

from sfc.config import Dataset
from sfc.data.manifest import Manifest, write_manifest
from sfc.data.voc import read_voc
from stages._stage import output, progress, stage, workers, write_json


@stage(
    "Check every image, mask and label of the data set and write the manifest all later stages read.",
    reads="the folder dataset.root in VOC layout, and the label table dataset.labels if one is named",
    writes="out/manifest.csv, out/classes.json, metrics/dataset.json",
    params=("dataset",),
)
def main(dataset: Dataset) -> str:
    manifest, left_out = read_voc(
        Path(dataset.root),
        train=dataset.train,
        val=dataset.val,
        labels=Path(dataset.labels) if dataset.labels is not None else None,
        masks=dataset.masks,
        classes=dataset.classes,
        workers=workers(),
        progress=partial(progress, label="prepare: images and masks"),
    )
    with output("out/manifest.csv") as csv_path, output("out/classes.json") as classes_path:
        write_manifest(manifest, csv_path, classes_path)
    write_json(
        "metrics/dataset.json",
        {
            "classes": len(manifest.classes),
            "train": {**_facts(manifest, "train"), "images_without_label": len(left_out)},
            "val": _facts(manifest, "val"),
        },
    )
    splits = Counter(record.split for record in manifest.records)
    skipped = f", {len(left_out):,} without a label left out" if left_out else ""
    return (
        f"prepare: {splits['train']:,} training{skipped} and {splits['val']:,} validation images "
        f"of {len(manifest.classes)} classes to out/manifest.csv"
    )


def _facts(manifest: Manifest, split: str) -> dict[str, float | str]:
    records = manifest.split(split)
    labels = manifest.label_matrix(records)
    per_class = labels.sum(axis=0)
    return {
        "images": len(records),
        "images_with_mask": sum(record.mask is not None for record in records),
        "images_per_class_largest": int(per_class.max()),
        "images_per_class_smallest": int(per_class.min()),
        "classes_per_image": float(np.mean(labels.sum(axis=1))),
        "label_source": records[0].label_source,
    }


if __name__ == "__main__":
    main()
