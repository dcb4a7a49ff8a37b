"""A folder in which infer_cam can run, for the tests."""

from pathlib import Path

import numpy as np
import torch
import yaml
from PIL import Image

from sfc.data.manifest import Manifest, Record, write_manifest
from sfc.methods import save_cam_network
from sfc.methods.sfc import SfcNetwork

ROOT = Path(__file__).resolve().parents[2]
CLASSES = ("cat", "dog")


def write_cam_project(folder, images):
    """Manifest, images and a CAM network that has learnt nothing."""
    (folder / "out").mkdir(parents=True)
    rng = np.random.default_rng(0)
    records = []
    for i in range(images):
        size = [(24, 40), (40, 24), (24, 40), (17, 19)][i % 4]
        path = folder / f"{i}.png"
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(path)
        split = "train" if i < images - 1 else "val"
        labels = ((0,), (0, 1), (1,), ())[i % 4]
        records.append(Record(f"im{i}", split, path, None, *size, labels, "", "table"))
    write_manifest(Manifest(tuple(records), CLASSES), folder / "out/manifest.csv", folder / "out/classes.json")
    torch.manual_seed(0)
    network = SfcNetwork(
        arch="resnet18",
        num_classes=len(CLASSES),
        frozen_stages=0,
        batch_norm="frozen",
        pcm_iters=2,
        bkg_before_pcm=True,
        prototype={"mode": "argmax", "bkg_scale": 0.3, "threshold": 0.3, "seed_range": "none"},
    )
    save_cam_network(network, folder / "out/cam.safetensors", method="sfc", classes=CLASSES, params={})
    params = yaml.safe_load((ROOT / "presets/voc12.yaml").read_text())
    params["cam"] |= {"splits": ["train", "val"], "scales": [1.0, 0.5], "precision": "fp32"}
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    return records
