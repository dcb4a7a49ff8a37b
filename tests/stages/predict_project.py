"""A folder in which predict and segment can run, for the tests."""

from pathlib import Path

import torch
import yaml

from sfc.data.manifest import Manifest, write_manifest
from sfc.segmentation.deeplab import DeepLabV2
from sfc.segmentation.models import save_segmenter
from tests.data.folder import record

ROOT = Path(__file__).resolve().parents[2]
SIZES = [(24, 40), (40, 24), (24, 40), (1, 9), (24, 40)]


def write_project(folder: Path) -> None:
    """Manifest, images and an untrained model, in the working directory; the masks it names do not exist."""
    Path("out").mkdir()
    mask = folder / "no mask.png"
    records = [record(folder / f"im{i}.png", size, split="val", mask=mask, seed=i) for i, size in enumerate(SIZES)]
    write_manifest(Manifest(tuple(records), ("cat", "dog")), "out/manifest.csv", "out/classes.json")
    write_model("cat", "dog")
    params = yaml.safe_load((ROOT / "presets/voc12.yaml").read_text())
    Path("params.yaml").write_text(yaml.safe_dump(params))
    set_predict(precision="fp32", batch_size=2, flip=True)
    set_predict("crf", enabled=False)


def write_model(*classes: str) -> None:
    torch.manual_seed(0)
    network = DeepLabV2(arch="resnet18", num_classes=1 + len(classes), atrous_rates=(1, 2), image_scale=1.0)
    torch.nn.init.normal_(network.aspp.branches[0].weight, std=0.3)
    save_segmenter(network, "out/seg.safetensors", classes=classes, params={})


def set_predict(*section: str, **values) -> None:
    """Change params of the section predict, or of one inside it."""
    params = yaml.safe_load(Path("params.yaml").read_text())
    target = params["predict"]
    for name in section:
        target = target[name]
    target |= values
    Path("params.yaml").write_text(yaml.safe_dump(params))
