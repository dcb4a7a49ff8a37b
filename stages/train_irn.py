"""Stage train_irn: IRN's network, trained on the confident labels."""

from __future__ import annotations

from functools import partial

import torch

from sfc.backbone import load_backbone_weights
from sfc.config import Irn
from sfc.data.crops import LabelledCrops
from sfc.data.manifest import read_manifest
from sfc.data.negatives import batch_mix
from sfc.irn.network import IrnNetwork, IrnObjective, save_irn
from sfc.label_archive import LabelArchive
from sfc.training import distributed
from sfc.training.optim import poly, sgd
from stages._stage import device, say, stage, weights_path
from stages._training import fit, seeded

INPUTS = ["out/manifest.csv", "out/classes.json", "out/confident.zip"]


@stage(
    "Train IRN's network, which gives the affinities, on the confident labels.",
    reads=", ".join(INPUTS) + ", the train images; out/cam.safetensors when irn.backbone.weights is cam",
    writes="out/irn.safetensors (last step), plots/train_irn.csv, metrics/train_irn.json",
)
def main(irn: Irn) -> str:
    target = device()
    distributed.start(target)
    manifest = read_manifest("out/manifest.csv", "out/classes.json")
    records = manifest.split("train")
    mix = batch_mix(manifest.label_matrix(records), irn.batch_size, irn.negative_share, section="irn")
    steps = mix.steps_per_epoch() * irn.epochs
    weights = weights_path(irn.backbone.weights)
    say(f"train_irn: {steps} steps of {mix.described} on {target}, {len(mix.used)} training images")

    backbone = irn.backbone.model_dump(exclude={"weights"})
    objective = seeded(irn.random_seed, lambda: IrnObjective(IrnNetwork(**backbone), radius=irn.radius))
    load_backbone_weights(objective.network.backbone, weights)
    objective = objective.to(target, memory_format=torch.channels_last)
    crops = LabelledCrops(
        records,
        LabelArchive("out/confident.zip").label_of,
        crop=irn.crop,
        rescale=irn.rescale,
        uniform=True,
        image_scale=1.0,
        hsv_jitter=0,
        seed=irn.random_seed,
    )
    group = {"params": list(objective.parameters()), "lr": irn.lr, "weight_decay": irn.weight_decay}
    loss = fit(
        "train_irn",
        objective,
        crops,
        target=target,
        mix=mix,
        steps=steps,
        section=irn,
        inputs=[*INPUTS, weights],
        optimiser=sgd([group], momentum=irn.momentum),
        lr_factor=poly(steps, irn.power),
        clip_norm=irn.clip_norm,
        save=partial(save_irn, objective.network, params={"irn": irn.model_dump(mode="json")}),
        losses=("positive", "negative"),
        facts={"images": len(mix.used)},
    )
    return f"train_irn: {steps} steps, loss {loss:.3f}, to out/irn.safetensors"


if __name__ == "__main__":
    main()
