"""Stage label_stats: how often each class occurs, the weight that follows from it, and what the method reads."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import click
import numpy as np

from sfc.config import Dc, Ibr
from sfc.config_types import Section
from sfc.data.manifest import read_manifest
from sfc.data.negatives import BatchMix, batch_mix
from sfc.errors import UserError
from sfc.label_stats import (
    LabelStats,
    classes_per_draw,
    classes_per_image,
    label_stats,
    label_stats_csv,
)
from sfc.label_table import class_indices, read_label_table
from sfc.params import read_text, read_yaml
from stages._stage import MethodSections, Param, output, stage, write_json

PIPELINE = Path("dvc.yaml")
# C_IBR describes the data and the bank, not one training run, so neither is a param
SIMULATION = {"epochs": 10, "seed": 0}


@stage(
    "Count the classes of the training images, compute the distribution coefficient (Eq. 6), and put together what the "
    "chosen method reads.\n\n"
    "With --labels: print the same table for a label table alone, without images, and write nothing.",
    reads="out/manifest.csv, out/classes.json; with --labels only that file",
    writes="out/label_stats.csv, out/method.json, metrics/label_stats.json",
)
@click.option("--labels", metavar="FILE.csv", help="A label table (image_id,split,classes).")
@click.option("--split", metavar="NAME", help="The split of --labels to count; without it the table's first.")
def main(
    labels: str | None,
    split: str | None,
    ibr: Ibr,
    dc: Dc,
    batch_size: Annotated[int, Param("train_cam.batch_size")],
    negatives: Annotated[bool, Param("dataset.negatives")],
    negative_share: Annotated[float | None, Param("train_cam.negative_share")],
    method: Annotated[str, Param("train_cam.method")],
    sections: Annotated[dict[str, Section], MethodSections(declared=True)],
) -> str:
    if labels is not None:
        classes, matrix = _from_table(labels, split, negatives)
        stats, _ = _stats(matrix, ibr, dc, batch_mix(matrix, batch_size, negative_share, section="train_cam"))
        click.echo(label_stats_csv(stats, classes), nl=False)
        return f"label_stats: {len(matrix):,} images of {len(classes)} classes"
    if split is not None:
        raise UserError("--split names a split of a label table; give the table with --labels")
    _check_declared(method, sections)
    manifest = read_manifest("out/manifest.csv", "out/classes.json")
    matrix = manifest.label_matrix(manifest.split("train"))
    stats, facts = _stats(matrix, ibr, dc, batch_mix(matrix, batch_size, negative_share, section="train_cam"))
    with output("out/label_stats.csv") as path:
        path.write_text(label_stats_csv(stats, manifest.classes), encoding="utf-8")
    _write_method("out/method.json", method, sections, stats)
    write_json("metrics/label_stats.json", {"split": "train", "images": len(matrix), **facts})
    return f"label_stats: {len(matrix):,} images of {len(manifest.classes)} classes to out/label_stats.csv"


def _check_declared(method: str, sections: Iterable[str]) -> None:
    """Raise UserError if dvc.yaml does not make this stage depend on what the method reads."""
    if not PIPELINE.exists():
        return
    try:
        declared = read_yaml(read_text(PIPELINE), source=str(PIPELINE))["stages"]["label_stats"]["params"]
        missing = [name for name in sections if name not in declared]
    except (KeyError, TypeError):  # another pipeline
        return
    if missing:
        raise UserError(
            f"{PIPELINE}: the params of label_stats lack {', '.join(missing)}, which method {method} reads; add it "
            "there, or its changes will train nothing again"
        )


def _write_method(path: str, method: str, sections: dict[str, Section], stats: LabelStats) -> None:
    """What the chosen method reads, and nothing else: train_cam depends on this file, not on the sections.

    So a param of another method does not train again. DC with the digits of out/label_stats.csv.
    """
    params = {name: section.model_dump(mode="json") for name, section in sections.items()}
    dc = [float(f"{value:.10g}") for value in stats.dc] if "dc" in sections else None
    with output(path) as temporary:
        text = json.dumps({"method": method, "params": params, "dc": dc}, indent=2, sort_keys=True)
        temporary.write_text(text + "\n", encoding="utf-8")


def _from_table(path: str, split: str | None, negatives: bool) -> tuple[list[str], np.ndarray]:
    """Class names, sorted, and the label matrix of a split's images; without `negatives`, of those with a class."""
    table = read_label_table(path)
    splits = list(dict.fromkeys(row.split for row in table.values()))
    if split is None and splits:
        split = splits[0]
    if split not in splits:
        raise UserError(f"{path}: no image of split {split}; it has {', '.join(splits) or 'none'}")
    rows = [row.classes for row in table.values() if row.split == split and (row.classes or negatives)]
    classes = sorted({name for row in table.values() for name in row.classes})
    matrix = np.zeros((len(rows), len(classes)), np.float32)
    for index, names in enumerate(rows):
        matrix[index, list(class_indices(names, classes))] = 1
    return classes, matrix


def _stats(matrix: np.ndarray, ibr: Ibr, dc: Dc, mix: BatchMix) -> tuple[LabelStats, dict]:
    """The stats, and the facts of them that go to the metrics."""
    n_iter = dc.n_iter
    if n_iter == "auto":
        n_iter = mix.steps_per_epoch()
    c_ibr = dc.c_ibr
    if c_ibr == "auto":
        c_ibr = classes_per_image(matrix)
    elif c_ibr == "simulate":
        c_ibr = classes_per_draw(
            matrix[mix.images],
            batch_size=mix.images_each,
            draws=ibr.n,
            replacement=ibr.replacement,
            exclude_batch=ibr.exclude_batch,
            allow_empty=ibr.allow_empty,
            **SIMULATION,
        )
    stats = label_stats(matrix, draws=ibr.n, c_ibr=c_ibr, n_iter=n_iter, norm=dc.norm)
    facts = {
        "c_ibr": c_ibr,
        "n_iter": n_iter,
        "n_extra": float(stats.n_extra.max()),
        "images_per_class": {"largest": int(stats.n.max()), "smallest": int(stats.n.min())},
        "dc": {"largest": float(stats.dc.max()), "smallest": float(stats.dc.min())},
        "classes_without_image": int((stats.n == 0).sum()),
    }
    return stats, facts


if __name__ == "__main__":
    main()
