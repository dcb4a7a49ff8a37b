"""Stage pseudo_labels: the labels the segmentation model learns from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import numpy as np
import torch

from sfc.config import PseudoLabels, Refine, Walk, WalkFusion
from sfc.data.images import IGNORE, equal_sizes
from sfc.data.manifest import Record, read_manifest
from sfc.errors import UserError
from sfc.fusion import check_weights
from sfc.label_archive import LabelArchive
from sfc.localization.store import CamStore
from sfc.proposals.archive import ProposalArchive
from sfc.proposals.refine import vote_on_all
from sfc.training import distributed
from sfc.walk.pseudo_labels import IrnReader, refine_images
from stages._copies import check_paths, note_unwatched
from stages._labels import LabelShards, label_shards
from stages._scratch import Scratch
from stages._stage import Param, device, progress, say, stage, workers, write_json

WATCHED = "proposals"  # the folder that dvc.yaml names, since DVC cannot depend on a path that may be null


@stage(
    "Spread the CAMs of the train split over pixels that no edge divides, or take the CRF's labels over; let mask "
    "proposals vote on them.",
    reads="out/manifest.csv, out/classes.json; out/cams/, out/irn.safetensors and the train images, or out/crf.zip; "
    "refine.proposals and out/cams/",
    writes="out/pseudo_labels.zip, metrics/pseudo_labels.json",
)
def main(
    fusion: Annotated[WalkFusion, Param("fusion.{method}.walk")],
    walk: Walk,
    pseudo_labels: PseudoLabels,
    refine: Refine,
) -> str:
    target = device()
    distributed.start(target)
    records = read_manifest("out/manifest.csv", "out/classes.json").split("train")
    proposals = None if refine.proposals is None else _opened(refine.proposals, records)
    sections, inputs = [fusion, walk, pseudo_labels, refine], _inputs(pseudo_labels, refine)
    with Scratch("pseudo_labels", sections=sections, inputs=inputs) as scratch:
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
        if proposals is not None:
            labels = _voted(labels, records, proposals, fusion, refine)
        shards.write((id, [label]) for id, label in progress(labels, total=shards.images, label="pseudo-labels"))
        counts = shards.join([record.id for record in records], counted="labels")
        if distributed.is_main():
            covered = {} if proposals is None else _covered(proposals, records)
            write_json("metrics/pseudo_labels.json", _facts(records, pseudo_labels, counts) | covered)
    distributed.stop()
    return f"pseudo_labels: {len(records):,} label maps to out/pseudo_labels.zip"


def _inputs(pseudo_labels: PseudoLabels, refine: Refine) -> list[str]:
    """The files and folders that the labels are made from."""
    walked, voted = pseudo_labels.refine == "irn", refine.proposals is not None
    found = ["out/manifest.csv", "out/classes.json"]
    found += ["out/irn.safetensors"] if walked else ["out/crf.zip"]
    found += ["out/cams"] if walked or voted else []
    return found + ([refine.proposals] if voted else [])


def _facts(records: list[Record], pseudo_labels: PseudoLabels, counts: np.ndarray) -> dict[str, str | int | float]:
    """What the metrics file says of the labels."""
    return {
        "split": "train",
        "images": len(records),
        "images_without_class": sum(not record.labels for record in records),
        "refine": pseudo_labels.refine,
        "background": float(counts[0] / counts.sum()),
        "foreground": float(counts[1:IGNORE].sum() / counts.sum()),
    }


def _covered(proposals: ProposalArchive, records: list[Record]) -> dict[str, int]:
    """Of how many training images proposals vote, and how many entries of the archive do not."""
    by_id = {record.id: record for record in records}
    found = [by_id[id] for id in proposals.ids if id in by_id]
    voting = sum(bool(record.labels) for record in found)
    return {
        "images_with_proposals": voting,
        "proposals_of_images_without_class": len(found) - voting,
        "proposals_of_unknown_images": len(proposals.ids) - len(found),
    }


_RULE = {"foreground_power", "background", "whole_power"}  # of the walk; the rest of its section is the fusion


def _walked(
    batches: list[list[Record]], fusion: WalkFusion, walk: Walk, target: torch.device
) -> Iterator[tuple[str, np.ndarray]]:
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
        fusion=fusion.model_dump(exclude=_RULE),
        rule=walk.model_dump(include={"radius", "beta", "steps"}) | fusion.model_dump(include=_RULE),
        workers=workers(),
    )


def _opened(path: str, records: list[Record]) -> ProposalArchive:
    """The archive, which must have proposals for one of the images at least."""
    if distributed.is_main():
        check_paths({"refine.proposals": path})
        note_unwatched("refine.proposals", path, WATCHED)
    archive = ProposalArchive(path)
    covered = _covered(archive, records)
    voting, no_class, unknown = covered.values()
    if unknown == len(archive.ids):
        raise UserError(f"{path}: no entry has the id of a training image, such as {records[0].id}.json; rename them")
    if not voting:
        raise UserError(f"{path}: has proposals of images without a class alone, in which there is nothing to vote on")
    notes = f"; {no_class:,} images without a class keep their labels" if no_class else ""
    if unknown:
        known = {record.id for record in records}
        stranger = next(id for id in archive.ids if id not in known)
        notes += f"; {unknown:,} entries are of no training image ({stranger}, ...) and are passed over"
    say(f"pseudo_labels: mask proposals of {voting:,} of {len(records):,} images vote{notes}")
    return archive


def _voted(
    labels: Iterator[tuple[str, np.ndarray]],
    records: list[Record],
    proposals: ProposalArchive,
    fusion: WalkFusion,
    refine: Refine,
) -> Iterator[tuple[str, np.ndarray]]:
    cams = CamStore("out/cams")
    check_weights(cams.fused, fusion.weights)
    rule = refine.model_dump(exclude={"proposals"})
    return vote_on_all(
        labels, records, cams, proposals, fusion=fusion.model_dump(exclude=_RULE), rule=rule, workers=workers()
    )


if __name__ == "__main__":
    main()
