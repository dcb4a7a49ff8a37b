"""Stage prepare: check the data set and write down what is in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sfc.config import DATASET_FIELDS, DATASET_PATHS, Dataset
from sfc.data.images import shown_classes
from sfc.data.manifest import Manifest, write_manifest, write_tuning
from sfc.data.negatives import check_told_apart
from sfc.errors import refuse
from sfc.exchange.corrected import read_corrected
from sfc.label_archive import LabelArchiveWriter
from sfc.readers.coco import read_coco
from sfc.readers.table import read_table
from sfc.readers.voc import read_voc
from stages._copies import check_paths, note_unwatched
from stages._stage import output, progress, stage, workers, write_json

SPLITS = {"train": "training", "val": "validation", "test": "test"}


class Reader(NamedTuple):
    """`read(root, **params, workers=, progress=)` returns a manifest and counts of images.

    Counts are of the whole data set, or of a split under its name. A reader that draws masks does so in `mask_folder`,
    which will be `mask_path` when the stage is done.
    """

    read: Callable
    draws: bool


READERS = {
    "voc": Reader(read_voc, draws=True),
    "coco14": Reader(read_coco, draws=True),
    "table": Reader(read_table, draws=False),
}


@stage(
    "Check every image, mask and label of the data set and write the manifest all later stages read.",
    reads="the folder dataset.root in the layout of dataset.kind; the label table dataset.labels and the masks in "
    "dataset.corrected, if they are named",
    writes="out/manifest.csv, out/classes.json, out/tuning.json, out/masks/ (drawn ones alone), out/corrected.zip, "
    "metrics/prepare.json",
)
def main(dataset: Dataset) -> str:
    check_paths({f"dataset.{name}": getattr(dataset, name) for name in DATASET_PATHS})
    note_unwatched("dataset.corrected", dataset.corrected, dataset.root)
    reader = READERS[dataset.kind]
    settings = {name: getattr(dataset, name) for name in DATASET_FIELDS[dataset.kind]}
    settings |= {name: Path(settings[name]) for name in DATASET_PATHS if settings.get(name) is not None}
    with (
        output("out/masks") as drawn,
        output("out/manifest.csv") as csv_path,
        output("out/classes.json") as classes_path,
        output("out/corrected.zip") as corrected_path,
        output("out/tuning.json") as tuning_path,
    ):
        drawn.mkdir()
        if reader.draws:
            settings |= {"mask_folder": drawn, "mask_path": Path("out/masks")}
        manifest, counts = reader.read(
            Path(dataset.root),
            **settings,
            workers=workers(),
            progress=_shown,
        )
        _check_told_apart(manifest, counts, dataset.negatives)
        unknown = sorted(set(dataset.tuning) - {record.id for record in manifest.records})
        refuse("dataset.tuning", [f"the data set has no image {id}; remove it" for id in unknown])
        write_manifest(manifest, csv_path, classes_path)
        write_tuning(dataset.tuning, tuning_path)
        counts |= _write_corrected(corrected_path, dataset.corrected, manifest, _without_label(manifest, counts)[1])
    splits = [split for split in SPLITS if manifest.members(split)]
    facts = {split: _facts(manifest, split) | counts.get(split, {}) for split in splits}
    write_json("metrics/prepare.json", {"classes": len(manifest.classes), **counts, **facts})
    return f"prepare: {_summary(manifest, counts)}; to out/manifest.csv"


def _write_corrected(path: Path, folder: str | None, manifest: Manifest, left_out: int) -> dict[str, int]:
    """Put the masks that a person corrected into one archive, an empty one without any, and count them."""
    with LabelArchiveWriter(path) as writer:
        if folder is None:
            return {}
        counts = {"images_corrected": 0, "corrected_differ_from_labels": 0}
        for record, label in read_corrected(Path(folder), manifest, left_out=left_out):
            writer.write(record.id, label)
            counts["images_corrected"] += 1
            counts["corrected_differ_from_labels"] += shown_classes(label) != record.labels
    return counts


def _shown(items: Iterable, *, total: int, label: str) -> Iterable:
    return progress(items, total=total, label=f"prepare: {label}")


def _check_told_apart(manifest: Manifest, counts: dict, negatives: bool) -> None:
    """UserError if all training images show the same classes, as where there is one class and no negative."""
    _, left_out = _without_label(manifest, counts)
    advice = "add images that show none of them"
    if left_out:
        advice = f"{left_out:,} without a label were left out, which dataset.negatives: true keeps"
    elif not negatives:
        advice += ", and set dataset.negatives to true"
    check_told_apart(manifest.label_matrix(manifest.split("train")), manifest.classes, advice=advice)


def _without_label(manifest: Manifest, counts: dict) -> tuple[int, int]:
    """How many training images without a label are kept, and how many were left out."""
    kept = sum(not record.labels for record in manifest.members("train"))
    return kept, counts["train"]["images_without_label"] - kept


def _facts(manifest: Manifest, split: str) -> dict[str, float | str]:
    records = manifest.split(split)
    facts = {"images": len(records), "images_with_mask": sum(record.mask is not None for record in records)}
    if split == "test":
        return facts
    labels = manifest.label_matrix(records)
    if split == "train" and (negatives := int((~labels.any(axis=1)).sum())):
        facts["negatives"] = negatives
    per_class = labels.sum(axis=0)
    return facts | {
        "images_per_class_largest": int(per_class.max()),
        "images_per_class_smallest": int(per_class.min()),
        "classes_per_image": float(np.mean(labels.sum(axis=1))),
        "label_source": records[0].label_source,
    }


def _summary(manifest: Manifest, counts: dict) -> str:
    images = Counter(record.split for record in manifest.records)
    parts = [f"{images[split]:,} {name} images" for split, name in SPLITS.items() if images[split] or split == "val"]
    kept, left_out = _without_label(manifest, counts)
    notes = [f"{kept:,} of them negatives"] * bool(kept) + [f"{left_out:,} without a label left out"] * bool(left_out)
    if notes:
        parts[0] += f" ({', '.join(notes)})"
    notes = [f"{' and '.join(parts)} of {len(manifest.classes)} classes"]
    if any(record.split == "train" and record.label_source == "masks" for record in manifest.records):
        notes.append("labels read from the masks")
    if not any(record.mask for record in manifest.records):
        notes.append("no masks (nothing will be measured)")
    if unlike := sum(counts.get(split, {}).get("differ_from_masks", 0) for split in SPLITS):
        notes.append(f"{unlike:,} with other classes in the mask than in the labels")
    if corrected := counts.get("images_corrected"):
        notes.append(f"{corrected:,} training images with corrected masks")
    if rotated := counts["images_with_rotation_tag"]:
        notes.append(f"{rotated:,} with a rotation tag that is not applied")
    return ", ".join(notes)


if __name__ == "__main__":
    main()
