"""Segment any image by a trained model; no DVC stage, since its images are no part of the project."""

from __future__ import annotations

import csv
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import click
import numpy as np
from tqdm import tqdm

from sfc.data.images import equal_sizes, has_rotation_tag, image_size, palette_png, read_content, read_record
from sfc.data.manifest import BACKGROUND, Record
from sfc.data.pool import ordered_map, threaded_map
from sfc.deployment.cams import CamResults
from sfc.deployment.exported import ExportedModel
from sfc.deployment.known_labels import known_classes
from sfc.deployment.overlay import heat_overlay, label_overlay
from sfc.deployment.sources import TABLE, find_images
from sfc.errors import UserError
from sfc.localization.multiscale import infer_cams, ready
from sfc.memory import keep_freed_memory
from sfc.methods import load_cam_network
from sfc.model_file import CAM, SEGMENTATION, ModelFacts, read_facts
from sfc.segmentation.inference import labels_of, predict_labels
from sfc.segmentation.models import load_segmenter
from stages._errors import errors_as_lines
from stages._stage import device, output, progress, say, workers
from stages._use import look, look_options, project_params

Result = tuple[str, np.ndarray, np.ndarray | None]  # id, labels, and heat maps where there are any


@dataclass
class _Job:
    """The images of one run, and what could not be done."""

    records: dict[str, Record]
    known: bool
    failed: set[str] = field(default_factory=set)

    def broken(self, record: Record, error: UserError) -> None:
        """Say in a line of its own that an image is left out, and go on."""
        self.failed.add(record.id)
        with tqdm.external_write_mode(file=sys.stderr):
            say(f"Error: {error}")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@click.option("--out", "folder", required=True, type=click.Path(path_type=Path, file_okay=False), help="Results.")
@click.option("--model", type=click.Path(path_type=Path), help="[out/seg.safetensors; with --cam out/cam.safetensors]")
@click.option("--cam", is_flag=True, help="By the CAM network, with heat maps; needs --labels.")
@click.option(
    "--labels", help="Only these classes: names with commas between, or a table with the columns image and classes."
)
@look_options("predict, or cam, in params.yaml")
@click.option("--crf/--no-crf", default=None, help="Sharpen by the dense CRF. [predict.crf.enabled; with --cam: no]")
def main(sources, folder, model, cam, labels, scales, flip, crf) -> None:
    """Segment images: SOURCE is a file, a folder, a glob or a list NAME.txt of paths.

    Writes to the folder --out, for each image, labels/NAME.png (a label map in the model's colours), overlays/NAME.jpg
    (the classes over the image, with names), with --cam also heat_maps/NAME.CLASS.jpg, and a row in segments.csv with
    pixels and share of every class. The model is a file that train_seg wrote, or one that stages.export wrote (.onnx).
    An image that cannot be read is a line on the screen; the others are done, and the exit status is 1.
    """
    keep_freed_memory()
    with errors_as_lines():
        if cam and labels is None:
            raise UserError("--cam: CAMs are made of classes that are known; name them by --labels")
        images = find_images(sources, skip=folder)
        if cam:
            facts, run = _cam_network(model or Path("out/cam.safetensors"), scales=scales, flip=flip, crf=bool(crf))
        else:
            facts, run = _segmenter(model or Path("out/seg.safetensors"), scales=scales, flip=flip, crf=crf)
        job = _job(images, None if labels is None else known_classes(labels, images, facts.classes))
        started = time.monotonic()
        rows = _write_all(run(job), job, facts, folder)
    seconds = time.monotonic() - started
    say(
        f"segment: {len(rows):,} images to {folder} in {seconds:.0f} s, {len(rows) / seconds:.3g} images per second"
        + (f"; {len(job.failed):,} could not be done, see above" if job.failed else "")
    )
    if job.failed:
        raise SystemExit(1)


def _job(images: Mapping[str, Path], known: dict[str, tuple[int, ...]] | None) -> _Job:
    """Records of all images whose headers can be read and, where labels are given, of which they are known."""
    job = _Job({}, known=known is not None)
    rotated = 0
    for id, path in images.items():
        record = Record(id, "", path, None, 0, 0, () if known is None else known.get(id, ()), "", "")
        try:
            if known is not None and id not in known:
                raise UserError(f"{path}: the table of --labels has no row of it")
            height, width = image_size(path)
            rotated += has_rotation_tag(path, read_content(path))
        except UserError as error:
            job.broken(record, error)
            continue
        job.records[id] = replace(record, height=height, width=width)
    if rotated:
        say(f"segment: {rotated:,} images have a tag that asks viewers to rotate them; it is not applied")
    return job


def _segmenter(
    path: Path, *, scales: tuple[float, ...] | None, flip: bool | None, crf: bool | None
) -> tuple[ModelFacts, Callable[[_Job], Iterator[Result]]]:
    target = device()
    if path.suffix == ".onnx":
        if scales is not None or flip is not None:
            raise UserError(f"{path}: scales and flip are part of an exported model; give them to stages.export")
        found = look(scales=None, flip=None, crf=crf)
        exported = ExportedModel(path, target)
        say(f"segment: {path}, scales {', '.join(map(str, exported.scales))}, by onnxruntime")
        return exported.facts, partial(_labels_of_exported, exported, found.crf)
    if path.suffix == ".pt2":
        raise UserError(f"{path}: models that run here are .safetensors and .onnx; pt2 is for torch.export.load")
    found = look(scales=scales, flip=flip, crf=crf)
    facts = read_facts(path, task=SEGMENTATION)
    network = load_segmenter(path, target)
    say(f"segment: {path}, scales {', '.join(map(str, found.scales))}{', mirrored too' * found.flip}, on {target}")

    def run(job: _Job) -> Iterator[Result]:
        labels = predict_labels(
            network,
            equal_sizes(job.records.values(), found.batch_size),
            scales=found.scales,
            merge=found.merge,
            flip=found.flip,
            precision=found.precision,
            device=target,
            crf=found.crf,
            workers=workers(),
            known=job.known,
            broken=job.broken,
        )
        return ((id, label, None) for id, label in labels)

    return facts, run


def _labels_of_exported(model: ExportedModel, crf: dict[str, float] | None, job: _Job) -> Iterator[Result]:
    rows = model.rows(list(job.records.values()), workers=workers(), broken=job.broken)
    # the logits have the image's size already, so that nothing is resized
    for id, label in labels_of(rows, align_corners=False, crf=crf, known=job.known, workers=workers()):
        yield id, label, None


def _cam_network(
    path: Path, *, scales: tuple[float, ...] | None, flip: bool | None, crf: bool
) -> tuple[ModelFacts, Callable[[_Job], Iterator[Result]]]:
    target = device()
    params = project_params()
    if params is None:
        raise UserError(
            "--cam: how CAMs are fused stands in params.yaml, cam and fusion; run it in the project's folder"
        )
    cam = params.get("cam")
    cam = cam.model_copy(update={"scales": scales or cam.scales, "flip": cam.flip if flip is None else flip})
    facts = read_facts(path, task=CAM)
    network = ready(load_cam_network(path, target), pcm_iters=cam.pcm_iters, precision=cam.precision)
    fusion = {use: params.get(f"fusion.{facts.network['method']}.{use}").model_dump() for use in ("eval", "crf")}
    refine = (fusion["crf"], params.get("crf").model_dump()) if crf else None
    results = CamResults(network.kinds, network.fused, fusion["eval"], refine)
    say(f"segment: {path}, CAMs at scales {', '.join(map(str, cam.scales))}{', mirrored too' * cam.flip}, on {target}")

    def run(job: _Job) -> Iterator[Result]:
        cams = infer_cams(
            network,
            [list(job.records.values())],
            num_classes=len(facts.classes),
            scales=cam.scales,
            flip=cam.flip,
            mask_absent=cam.mask_absent,
            batch_size=cam.batch_size,
            precision=cam.precision,
            device=target,
            workers=workers(),
            broken=job.broken,
        )
        return ordered_map(results, ((job.records[id], maps) for id, maps in cams), workers=workers())

    return facts, run


def _write_all(results: Iterator[Result], job: _Job, facts: ModelFacts, folder: Path) -> list[list]:
    """Write every result, and the table of them in the order of the sources; returns its rows."""
    write = partial(_write, records=job.records, facts=facts, folder=folder)
    rows = {}
    for id, row in progress(
        threaded_map(write, results, workers=workers()), total=len(job.records), label="segmenting"
    ):
        rows[id] = row
    names = [BACKGROUND, *facts.classes]
    with output(folder / TABLE) as path, open(path, "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        measures = [f"{name}_{what}" for name in names for what in ("pixels", "share")]
        table.writerow(["image", "height", "width", *measures])
        table.writerows(rows[id] for id in job.records if id in rows)
    return list(rows.values())


def _write(
    result: Result, *, records: Mapping[str, Record], facts: ModelFacts, folder: Path
) -> tuple[str, list[str | int | float]]:
    """Write the pictures of one image; returns its id and its row in the table."""
    id, label, heat = result
    record, image = records[id], read_record(records[id])
    with output(folder / "labels" / f"{id}.png") as path:
        path.write_bytes(palette_png(label, palette=facts.palette))
    with output(folder / "overlays" / f"{id}.jpg") as path:
        label_overlay(image, label, facts.classes, facts.palette).save(path, quality=90)
    for index, values in zip(record.labels, heat, strict=True) if heat is not None else ():
        name = facts.classes[index]
        with output(folder / "heat_maps" / f"{id}.{name.replace('/', '_')}.jpg") as path:
            heat_overlay(image, values, name).save(path, quality=90)
    counts = np.bincount(label.ravel(), minlength=1 + len(facts.classes)).tolist()
    measures = [value for count in counts for value in (count, round(count / label.size, 6))]
    return id, [record.image.as_posix(), record.height, record.width, *measures]


if __name__ == "__main__":
    main()
