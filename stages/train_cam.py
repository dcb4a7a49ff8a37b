"""Stage train_cam: the CAM network, trained by SFC or by one of the methods it is compared with."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Annotated

import torch

from sfc.backbone import load_backbone_weights
from sfc.calibration.gradients import GradientRecord, write_gradients
from sfc.calibration.method import Setup
from sfc.calibration.network import CamNetwork
from sfc.calibration.objective import Objective
from sfc.config import TrainCam
from sfc.config_types import Section
from sfc.data.crops import ImageCrops
from sfc.data.manifest import Manifest, Record, read_manifest
from sfc.data.negatives import BatchMix, batch_mix, check_told_apart
from sfc.errors import UserError
from sfc.methods import METHODS, save_cam_network
from sfc.training import distributed
from sfc.training.optim import poly, sgd
from stages._stage import MethodSections, device, output, say, stage
from stages._training import fit, seeded

INPUTS = ["out/manifest.csv", "out/classes.json", "out/method.json"]


@stage(
    "Train the CAM network by the method named in train_cam.method.",
    reads=", ".join(INPUTS) + ", the train images, the file train_cam.backbone.weights if it is one",
    writes="out/cam.safetensors (last step), plots/train_cam.csv and train_cam_gradients.csv, metrics/train_cam.json",
)
def main(train_cam: TrainCam, sections: Annotated[dict[str, Section], MethodSections(declared=False)]) -> str:
    target = device()
    distributed.start(target)
    manifest = read_manifest("out/manifest.csv", "out/classes.json")
    records = manifest.split("train")
    mix = _mix(manifest, records, train_cam)
    per_epoch = mix.steps_per_epoch()
    steps = per_epoch * train_cam.epochs
    num_classes, method = len(manifest.classes), METHODS[train_cam.method]
    say(
        f"train_cam: method {method.name} by the params of {', '.join(sections)}: {steps} steps of "
        f"{mix.described} on {target}, {len(mix.used)} training images"
    )
    setup = Setup(
        trunk={"num_classes": num_classes, **train_cam.backbone.model_dump(exclude={"weights"})},
        crop=train_cam.crop,
        random_seed=train_cam.random_seed,
        dc=_distribution_coefficients("out/method.json", train_cam.method, sections, num_classes),
    )
    objective = seeded(train_cam.random_seed, lambda: method.objective(setup, **sections))
    load_backbone_weights(objective.network.backbone, train_cam.backbone.weights)
    objective.gradients = GradientRecord(num_classes, interval=per_epoch, intervals=train_cam.epochs)
    objective = objective.to(target, memory_format=torch.channels_last)
    crops = ImageCrops(
        records, num_classes, crop=train_cam.crop, long_side=train_cam.long_side, seed=train_cam.random_seed
    )
    lr_factor = poly(steps, train_cam.power, hold=train_cam.schedule.hold)
    loss = fit(
        "train_cam",
        objective,
        crops,
        target=target,
        mix=mix,
        steps=steps,
        section=train_cam,
        other_sections=list(sections.values()),
        inputs=[*INPUTS, train_cam.backbone.weights],
        optimiser=_optimiser(objective.network, train_cam),
        lr_factor=lr_factor,
        clip_norm=train_cam.clip_norm,
        save=partial(
            _save,
            objective=objective,
            method=method.name,
            classes=manifest.classes,
            params={name: read.model_dump(mode="json") for name, read in {"train_cam": train_cam, **sections}.items()},
        ),
        losses=method.losses,
        measures=method.measures,
        warning=method.warning,
        facts={"images": len(mix.used), "classes": num_classes, "lr_steps": sum(map(lr_factor, range(steps)))},
    )
    return f"train_cam: {steps} steps, loss {loss:.3f}, to out/cam.safetensors"


def _mix(manifest: Manifest, records: list[Record], train_cam: TrainCam) -> BatchMix:
    """What batches are made of; UserError if all images that would be trained on show the same classes."""
    labels = manifest.label_matrix(records)
    mix = batch_mix(labels, train_cam.batch_size, train_cam.negative_share, section="train_cam")
    advice = "train on images without them, too: see dataset.negatives and train_cam.negative_share"
    check_told_apart(labels[mix.used], manifest.classes, advice=advice)
    return mix


def _distribution_coefficients(
    path: str, method: str, sections: dict[str, Section], num_classes: int
) -> torch.Tensor | None:
    """DC of each class, (C,) float32, from what label_stats wrote for the method; None where it reads none.

    Raises:
        UserError: no such file, or one of another method or other params (a stage that was run by hand).
    """
    try:
        written = json.loads(Path(path).read_text(encoding="utf-8"))
        params = {name: section.model_dump(mode="json") for name, section in sections.items()}
        fits = (written["method"], written["params"]) == (method, params)
        dc = None if written["dc"] is None else torch.tensor([float(value) for value in written["dc"]])
        damaged = (dc is None) == ("dc" in sections) or (dc is not None and dc.shape != (num_classes,))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run the stage label_stats first") from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise UserError(f"{path}: not what the stage label_stats writes; run it again") from None
    if fits and damaged:
        raise UserError(f"{path}: not what the stage label_stats writes for {num_classes} classes; run it again")
    if not fits:
        raise UserError(f"{path}: made with other params than those in params.yaml; run the stage label_stats again")
    return dc


def _save(path: Path, *, objective: Objective, method: str, classes: tuple[str, ...], params: dict[str, dict]) -> None:
    save_cam_network(objective.network, path, method=method, classes=classes, params=params)
    with output("plots/train_cam_gradients.csv") as gradients:
        write_gradients(objective.gradients, gradients, classes)


def _optimiser(network: CamNetwork, train_cam: TrainCam) -> torch.optim.SGD:
    shared = {"weight_decay": train_cam.weight_decay}
    trunk = {"params": list(network.backbone.parameters()), "lr": train_cam.lr, **shared}
    heads = {"params": network.heads(), "lr": train_cam.lr * train_cam.head_lr_scale, **shared}
    return sgd([trunk, heads], momentum=train_cam.momentum)


if __name__ == "__main__":
    main()
