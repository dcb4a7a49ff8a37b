"""Stage train_sfc: the CAM network, trained by SFC or by one of the methods it is compared with."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch

from sfc.backbone import load_backbone_weights
from sfc.calibration.base import BaseNetwork, Objective
from sfc.calibration.gradients import GradientRecord, write_gradients
from sfc.calibration.network import save_cam_network
from sfc.config import Ibr, Msdw, Sfc, Sipe
from sfc.data.batches import steps_per_epoch
from sfc.data.crops import ImageCrops
from sfc.data.manifest import read_manifest
from sfc.training import distributed
from sfc.training.optim import sgd
from stages._methods import METHODS
from stages._stage import device, output, say, stage
from stages._training import fit, seeded

INPUTS = ["out/manifest.csv", "out/classes.json", "out/label_stats.csv"]


@stage(
    "Train the CAM network by sfc.method: Shared Feature Calibration (sfc), SIPE (sipe) or the classifier alone (cam).",
    reads=", ".join(INPUTS) + ", the train images, the file sfc.backbone.weights if it is one",
    writes="out/sfc.safetensors (last step), plots/train_sfc.csv and train_sfc_gradients.csv, metrics/train_sfc.json",
    params=("sfc", "ibr", "msdw", "sipe"),
)
def main(sfc: Sfc, ibr: Ibr, msdw: Msdw, sipe: Sipe) -> str:
    target = device()
    distributed.start(target)
    manifest = read_manifest("out/manifest.csv", "out/classes.json")
    records = manifest.split("train")
    per_epoch = steps_per_epoch(len(records), sfc.batch_size, param="sfc.batch_size")
    steps = per_epoch * sfc.epochs
    num_classes, method = len(manifest.classes), METHODS[sfc.method]
    drawn = "" if "ibr" in method.ignores else f" + {ibr.n}"
    say(f"train_sfc: {steps} steps of {sfc.batch_size}{drawn} images on {target}, {len(records)} training images")
    if method.ignores:
        say(f"train_sfc: method {sfc.method} does not read {', '.join(method.ignores)}")

    objective = seeded(sfc.random_seed, lambda: method.objective(num_classes, sfc, ibr, msdw, sipe))
    load_backbone_weights(objective.network.backbone, sfc.backbone.weights)
    objective.gradients = GradientRecord(num_classes, interval=per_epoch, intervals=sfc.epochs)
    objective = objective.to(target, memory_format=torch.channels_last)
    crops = ImageCrops(records, num_classes, crop=sfc.crop, long_side=sfc.long_side, seed=sfc.random_seed)
    loss = fit(
        "train_sfc",
        objective,
        crops,
        target=target,
        steps=steps,
        section=sfc,
        other_sections=[ibr, msdw, sipe],
        inputs=[*INPUTS, sfc.backbone.weights],
        optimiser=_optimiser(objective.network, sfc),
        clip_norm=sfc.clip_norm,
        save=partial(_save, objective=objective, method=sfc.method, classes=manifest.classes),
        curve=["loss", "cls", "proto", "scale"],
        facts={"images": len(records), "classes": num_classes},
    )
    return f"train_sfc: {steps} steps, loss {loss:.3f}, to out/sfc.safetensors"


def _save(path: Path, *, objective: Objective, method: str, classes: tuple[str, ...]) -> None:
    save_cam_network(objective.network, path, method=method)
    with output("plots/train_sfc_gradients.csv") as gradients:
        write_gradients(objective.gradients, gradients, classes)


def _optimiser(network: BaseNetwork, sfc: Sfc) -> torch.optim.SGD:
    trunk = {"params": list(network.backbone.parameters()), "lr": sfc.lr, "weight_decay": sfc.weight_decay}
    heads = {"params": network.heads(), "lr": sfc.lr * sfc.head_lr_scale, "weight_decay": sfc.weight_decay}
    return sgd([trunk, heads], momentum=sfc.momentum)


if __name__ == "__main__":
    main()
