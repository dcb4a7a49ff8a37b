"""Segment any image by a trained model; no DVC stage, since its images are no part of the project."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import click
import numpy as np
import torch
from tqdm import tqdm

from sfc.data.images import equal_sizes, has_rotation_tag, image_size, read_content
from sfc.data.manifest import Record
from sfc.data.pool import ordered_map, threaded_map
from sfc.deployment.cams import CamResults
from sfc.deployment.exported import ExportedModel
from sfc.deployment.known_labels import read_labels
from sfc.deployment.sources import find_images
from sfc.errors import UserError
from sfc.localization.multiscale import infer_cams, ready
from sfc.memory import keep_freed_memory
from sfc.methods import load_cam_network
from sfc.model_file import CAM, SEGMENTATION, ModelFacts, read_facts
from sfc.segmentation.inference import labels_of, predict_labels, ready_segmenter
from sfc.segmentation.models import load_segmenter
from stages._command import writing_alone
from stages._ending import Ended
from stages._places import GivenPath
from stages._precision import bf16_note
from stages._results import ImageError, Results
from stages._stage import device, progress, say, workers
from stages._text import counted, per_second
from stages._use import Look, look, look_options, project_params, scales_line, source_line

PREDICT = "predict.precision"
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


@dataclass(frozen=True)
class _Model:
    """A model, and how it looks at images; its weights are read by `run`, once all else has been found well.

    Attributes:
        how: what the person who watches is told.
        run: makes the results of a job.
        precision: the param that says in which precision it runs, and that.
    """

    facts: ModelFacts
    how: str
    run: Callable[[_Job], Iterator[Result]]
    precision: tuple[str, str]

    def note(self) -> str | None:
        """What to tell where fp32 would be faster."""
        param, precision = self.precision
        return bf16_note(param, device(), gradients=False) if precision == "bf16" else None


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@click.option("--out", "folder", required=True, type=GivenPath(path_type=Path, readable=False), help="Results.")
@click.option("--model", type=GivenPath(path_type=Path), help="[out/seg.safetensors; with --cam out/cam.safetensors]")
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
    these files, and pixels and share of every class. The model is a file that train_seg wrote, or one that
    stages.export wrote (.onnx). An image that cannot be read is a line on the screen; the others are done, and the exit
    status is 1. A run that was ended leaves what it has done; start it again to have all.
    """
    keep_freed_memory()
    with writing_alone("segment", folder):
        if cam and labels is None:
            raise UserError("--cam: CAMs are made of classes that are known; name them by --labels")
        images = find_images(sources)
        wanted = None if labels is None else read_labels(labels)
        if cam:
            chosen = _cam_network(model or Path("out/cam.safetensors"), scales=scales, flip=flip, crf=bool(crf))
        else:
            chosen = _segmenter(model or Path("out/seg.safetensors"), scales=scales, flip=flip, crf=crf)
        known = None if wanted is None else wanted.of_images(images, chosen.facts.classes)
        workers()  # read here, so that a slip in it is found before the model is loaded
        results = Results(folder, images, chosen.facts)
        say(f"segment: {chosen.how}; {source_line()}")
        if note := chosen.note():
            say(f"segment: {note}")
        job = _job(images, known)
        if job.records:
            _do(job, chosen.run(job), results, folder)
        else:
            say(f"segment: nothing done of {counted(len(images), 'image')}, see above")
    if job.failed:
        raise SystemExit(1)


def _do(job: _Job, found: Iterator[Result], results: Results, folder: Path) -> None:
    """Segment and write all images that can be done, and say how many that were."""
    started, total = time.monotonic(), len(job.records)
    write = partial(_write, job=job, results=results)
    try:
        with results, closing(threaded_map(write, found, workers=workers())) as written:
            for _ in progress(written, total=total, label="segmenting"):
                pass
    except (KeyboardInterrupt, Ended):
        said = f"{results.done:,} of {counted(total, 'image')}, which stay"
        say(f"segment: ended after {said} in {folder}; the same command does all")
        raise
    seconds = time.monotonic() - started
    rate = f", {per_second(results.done, seconds)} images per second" if results.done else ""
    lost = f"; {len(job.failed):,} could not be done, see above" if job.failed else ""
    say(f"segment: {counted(results.done, 'image')} to {folder} in {seconds:.0f} s{rate}{lost}")


def _write(result: Result, *, job: _Job, results: Results) -> None:
    """Write one image's results, or say why that cannot be where it concerns no other image."""
    id, label, heat = result
    record = job.records[id]
    try:
        results.write(record, label, heat)
    except ImageError as error:
        job.broken(record, error)


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
        say(f"segment: {counted(rotated, 'image')} with a tag that asks viewers to rotate; it is not applied")
    return job


def _segmenter(path: Path, *, scales: tuple[float, ...] | None, flip: bool | None, crf: bool | None) -> _Model:
    if path.suffix == ".pt2":
        raise UserError(f"{path}: models that run here are .safetensors and .onnx; pt2 is for torch.export.load")
    target, found = device(), look(scales=scales, flip=flip, crf=crf)
    if path.suffix == ".onnx":
        if scales is not None or flip is not None:
            raise UserError(f"{path}: scales and flip are part of an exported model; give them to stages.export")
        model = ExportedModel(path, target)
        how = replace(found, scales=model.scales, flip=model.flip, precision="fp32")
        return _Model(
            model.facts, f"{path}, {how}, by onnxruntime", partial(_of_exported, model, found.crf), (PREDICT, "fp32")
        )
    facts = read_facts(path, task=SEGMENTATION)
    run = partial(_of_network, path, found, target)
    return _Model(facts, f"{path}, {found}, on {target}", run, (PREDICT, found.precision))


def _of_network(path: Path, found: Look, target: torch.device, job: _Job) -> Iterator[Result]:
    labels = predict_labels(
        ready_segmenter(load_segmenter(path, target), precision=found.precision),
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


def _of_exported(model: ExportedModel, crf: dict[str, float] | None, job: _Job) -> Iterator[Result]:
    rows = model.rows(list(job.records.values()), workers=workers(), broken=job.broken)
    # the logits have the image's size already, so that nothing is resized
    for id, label in labels_of(rows, align_corners=False, crf=crf, known=job.known, workers=workers()):
        yield id, label, None


def _cam_network(path: Path, *, scales: tuple[float, ...] | None, flip: bool | None, crf: bool) -> _Model:
    target, params = device(), project_params()
    if params is None:
        raise UserError(
            "--cam: how CAMs are fused stands in params.yaml, cam and fusion; run it in the project's folder"
        )
    cam = params.get("cam")
    cam = cam.model_copy(update={"scales": scales or cam.scales, "flip": cam.flip if flip is None else flip})
    facts = read_facts(path, task=CAM)
    fusion = {use: params.get(f"fusion.{facts.network['method']}.{use}").model_dump() for use in ("eval", "crf")}
    refine = (fusion["crf"], params.get("crf").model_dump()) if crf else None
    how = f"{path}, CAMs at {scales_line(cam.scales, cam.flip)}, {cam.precision}, {'with a' if crf else 'no'} CRF"

    def run(job: _Job) -> Iterator[Result]:
        network = ready(
            load_cam_network(path, target),
            pcm_iters=cam.pcm_iters,
            seed_pcm_iters=cam.seed_pcm_iters,
            precision=cam.precision,
        )
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
        results = CamResults(network.kinds, network.fused, fusion["eval"], refine)
        return ordered_map(results, ((job.records[id], maps) for id, maps in cams), workers=workers())

    return _Model(facts, f"{how}, on {target}", run, ("cam.precision", cam.precision))


if __name__ == "__main__":
    main()
