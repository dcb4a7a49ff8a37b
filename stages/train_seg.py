"""Stage train_seg: the segmentation model, trained on pseudo-labels, or what a person made of them, as the truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch

from sfc.config import Seg
from sfc.data.crops import LabelledCrops
from sfc.data.images import IGNORE, shown_classes
from sfc.data.manifest import Record, label_matrix, read_manifest
from sfc.data.negatives import batch_mix
from sfc.errors import UserError
from sfc.label_archive import LabelArchive
from sfc.segmentation.models import MODELS, save_segmenter
from sfc.segmentation.objective import SegmentationObjective
from sfc.segmentation.segmenter import Segmenter, load_trunk_weights
from sfc.training import distributed
from sfc.training.optim import poly, sgd
from stages._stage import device, say, stage, weights_path
from stages._training import fit, seeded

INPUTS = ["out/manifest.csv", "out/classes.json", "out/pseudo_labels.zip", "out/corrected.zip"]


@stage(
    "Train the segmentation model on the pseudo-labels; corrected masks replace those of their images.",
    reads=", ".join(INPUTS) + ", the train images; out/cam.safetensors when seg.backbone.weights is cam",
    writes="out/seg.safetensors (last step), plots/train_seg.csv, metrics/train_seg.json",
)
def main(seg: Seg) -> str:
    target = device()
    distributed.start(target)
    manifest = read_manifest("out/manifest.csv", "out/classes.json")
    records = manifest.split("train")
    num_classes = 1 + len(manifest.classes)
    pseudo_labels, corrected = LabelArchive("out/pseudo_labels.zip"), LabelArchive("out/corrected.zip")
    shown = label_matrix([as_corrected(record, corrected) for record in records], len(manifest.classes))
    mix = batch_mix(shown, seg.batch_size, seg.negative_share, section="seg")
    weights = weights_path(seg.backbone.weights)
    used = sum(records[i].id in corrected for i in mix.used)
    by_hand = {"images_corrected": used} if corrected.ids else {}
    say(
        f"train_seg: {seg.steps} steps of {mix.described} on {target}, {len(mix.used)} training images"
        + (f", {used} with corrected masks" if by_hand else "")
        + (f" ({len(corrected.ids) - used} others are negatives)" if used < len(corrected.ids) else "")
    )

    network = seeded(seg.random_seed, lambda: _network(seg, num_classes))
    load_trunk_weights(network.backbone, weights)
    objective = SegmentationObjective(
        network, train_scales=seg.train_scales, loss=seg.loss, seed=seg.random_seed, batch_size=seg.batch_size
    )
    objective = objective.to(target, memory_format=torch.channels_last)
    crops = LabelledCrops(
        records,
        partial(read_label, archives=(corrected, pseudo_labels), num_classes=num_classes),
        crop=seg.crop,
        rescale=seg.scales,
        uniform=seg.scale_draw == "uniform",
        image_scale=seg.image_scale,
        hsv_jitter=seg.hsv_jitter,
        seed=seg.random_seed,
    )
    groups = network.parameter_groups(lr=seg.lr, head_lr_scale=seg.head_lr_scale, weight_decay=seg.weight_decay)
    loss = fit(
        "train_seg",
        objective,
        crops,
        target=target,
        mix=mix,
        steps=seg.steps,
        section=seg,
        inputs=[*INPUTS, weights],
        optimiser=sgd(groups, momentum=seg.momentum),
        lr_factor=poly(seg.steps, seg.power),
        clip_norm=None,
        save=partial(save_segmenter, network, classes=manifest.classes, params={"seg": seg.model_dump(mode="json")}),
        losses=(),
        facts={"images": len(mix.used), "classes": num_classes, **by_hand},
    )
    return f"train_seg: {seg.steps} steps, loss {loss:.3f}, to out/seg.safetensors"


def as_corrected(record: Record, corrected: LabelArchive) -> Record:
    """The record with the classes that its corrected mask shows, if it has one.

    One that shows none and is undecided (255) in places says nothing against the image's labels, which then stay.
    """
    if record.id not in corrected:
        return record
    label = corrected.label_of(record)
    shown = shown_classes(label)
    return replace(record, labels=shown) if shown or not (label == IGNORE).any() else record


def _network(seg: Seg, num_classes: int) -> Segmenter:
    return MODELS[seg.model](
        arch=seg.backbone.arch,
        num_classes=num_classes,
        atrous_rates=seg.atrous_rates,
        image_scale=seg.image_scale,
        frozen_stages=seg.backbone.frozen_stages,
        batch_norm=seg.backbone.batch_norm,
    )


def read_label(record: Record, *, archives: Sequence[LabelArchive], num_classes: int) -> np.ndarray:
    """What one image teaches, (H, W) uint8: its label map in the first of `archives` that has one.

    Raises:
        UserError: none has one, or it does not fit the image or the classes.
    """
    archive = next((archive for archive in archives if record.id in archive), archives[-1])
    label = archive.label_of(record)
    largest = label[label != IGNORE].max(initial=0)
    if largest >= num_classes:
        raise UserError(
            f"{archive.path}: {record.id} has label {largest}, but there are {num_classes - 1} classes; "
            "make the labels again"
        )
    return label


if __name__ == "__main__":
    main()
