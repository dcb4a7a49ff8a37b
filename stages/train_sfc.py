"""Stage train_sfc: the CAM network, trained with the image bank and the MSDW consistency loss."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pandas as pd
import torch

from sfc.backbone import load_backbone_weights
from sfc.calibration.gradients import GradientRecord, write_gradients
from sfc.calibration.image_bank import ImageBank
from sfc.calibration.network import CamNetwork, save_cam_network
from sfc.calibration.objective import SfcObjective
from sfc.data.batches import steps_per_epoch
from sfc.data.crops import ImageCrops
from sfc.data.manifest import Manifest, read_manifest
from sfc.training import distributed
from sfc.training.optim import sgd
from stages._stage import device, output, say, stage
from stages._training import fit, seeded

INPUTS = ["out/manifest.csv", "out/classes.json", "out/label_stats.csv"]


@stage(
    "Train the CAM network by Shared Feature Calibration.",
    reads=", ".join(INPUTS) + ", the train images, the file sfc.backbone.weights if it is one",
    writes="out/sfc.safetensors (last step), plots/train_sfc.csv and train_sfc_gradients.csv, metrics/train_sfc.json",
    params=("sfc", "ibr", "msdw"),
)
def main(sfc, ibr, msdw) -> str:
    target = device()
    distributed.start(target)
    manifest = read_manifest("out/manifest.csv", "out/classes.json")
    records = manifest.split("train")
    per_epoch = steps_per_epoch(len(records), sfc.batch_size)
    steps = per_epoch * sfc.epochs
    say(f"train_sfc: {steps} steps of {sfc.batch_size} + {ibr.n} images on {target}, {len(records)} training images")

    objective = seeded(sfc.random_seed, lambda: _objective(manifest, sfc, ibr, msdw))
    load_backbone_weights(objective.network.backbone, sfc.backbone.weights)
    objective.gradients = GradientRecord(len(manifest.classes), interval=per_epoch, intervals=sfc.epochs)
    objective = objective.to(target, memory_format=torch.channels_last)
    crops = ImageCrops(records, len(manifest.classes), crop=sfc.crop, long_side=sfc.long_side, seed=sfc.random_seed)
    loss = fit(
        "train_sfc",
        objective,
        crops,
        target=target,
        steps=steps,
        section=sfc,
        other_sections=[ibr, msdw],
        inputs=[*INPUTS, sfc.backbone.weights],
        optimiser=_optimiser(objective.network, sfc),
        clip_norm=sfc.clip_norm,
        save=partial(_save, objective=objective, method=sfc.method, classes=manifest.classes),
        facts={"images": len(records), "classes": len(manifest.classes)},
    )
    return f"train_sfc: {steps} steps, loss {loss:.3f}, to out/sfc.safetensors"


def _save(path: Path, *, objective: SfcObjective, method: str, classes: tuple[str, ...]) -> None:
    save_cam_network(objective.network, path, method=method)
    with output("plots/train_sfc_gradients.csv") as gradients:
        write_gradients(objective.gradients, gradients, classes)


def _objective(manifest: Manifest, sfc, ibr, msdw) -> SfcObjective:
    num_classes = len(manifest.classes)
    network = CamNetwork(
        arch=sfc.backbone.arch,
        num_classes=num_classes,
        frozen_stages=sfc.backbone.frozen_stages,
        batch_norm=sfc.backbone.batch_norm,
        pcm_iters=sfc.pcm_iters,
        bkg_before_pcm=sfc.bkg_before_pcm,
        seed_mode=sfc.seed.mode,
        seed_bkg_scale=sfc.seed.bkg_scale,
        seed_threshold=sfc.seed.threshold,
    )
    bank = None
    if ibr.n:
        bank = ImageBank(
            num_classes=num_classes,
            crop=sfc.crop,
            draws=ibr.n,
            replacement=ibr.replacement,
            exclude_batch=ibr.exclude_batch,
            allow_empty=ibr.allow_empty,
            seed=sfc.random_seed,
        )
    stats = pd.read_csv("out/label_stats.csv")
    return SfcObjective(
        network,
        bank=bank,
        dc=torch.tensor(stats["dc"].to_numpy(), dtype=torch.float32),
        w_proto=msdw.w_proto,
        w_scale=msdw.w_scale,
        dc_proto=msdw.dc_proto,
        dc_scale=msdw.dc_scale,
        proto_norm=sfc.proto_norm,
        reduction=msdw.reduction,
        detach_large=msdw.detach_large,
    )


def _optimiser(network: CamNetwork, sfc) -> torch.optim.SGD:
    trunk = {"params": list(network.backbone.parameters()), "lr": sfc.lr, "weight_decay": sfc.weight_decay}
    heads = {"params": network.heads(), "lr": sfc.lr * sfc.head_lr_scale, "weight_decay": sfc.weight_decay}
    return sgd([trunk, heads], momentum=sfc.momentum)


if __name__ == "__main__":
    main()
