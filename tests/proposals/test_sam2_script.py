"""The script of docs/proposals.md, word for word, with a stand-in for SAM 2: what it writes is what the stage reads."""

import re
import runpy
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from sfc.coco_masks import encode
from sfc.data.manifest import Manifest, write_manifest
from sfc.proposals.archive import ProposalArchive
from tests.data.folder import record

PAGE = Path(__file__).resolve().parents[2] / "docs/proposals.md"


class StandIn:
    """SAM2AutomaticMaskGenerator as far as the script uses it: the bright pixels, and all pixels."""

    def __init__(self, model, *, output_mode):
        assert (model, output_mode) == ("model of config.yaml and weights.pt", "coco_rle")

    def generate(self, image):
        assert (image.dtype, image.ndim) == (np.uint8, 3)
        masks = [image[..., 0] > 127, np.ones(image.shape[:2], bool)]
        return [{"segmentation": encode(mask), "area": int(mask.sum()), "predicted_iou": 0.9} for mask in masks]


@pytest.fixture
def sam2(monkeypatch):
    modules = {name: ModuleType(name) for name in ("sam2", "sam2.automatic_mask_generator", "sam2.build_sam")}
    modules["sam2.automatic_mask_generator"].SAM2AutomaticMaskGenerator = StandIn
    modules["sam2.build_sam"].build_sam2 = lambda config, weights, device: f"model of {config} and {weights}"
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)


def test_the_script_writes_an_archive_of_the_training_images(sam2, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    records = [record(Path(f"{id}.png"), (9, 12), split="val" if id == "v" else "train", seed=3) for id in "abv"]
    Path("out").mkdir()
    write_manifest(Manifest(tuple(records), ("ant",)), "out/manifest.csv", "out/classes.json")
    (script,) = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    Path("script.py").write_text(script)
    monkeypatch.setattr(sys, "argv", ["script.py", "config.yaml", "weights.pt", "proposals.zip"])
    runpy.run_path("script.py")
    archive = ProposalArchive("proposals.zip")
    assert [record.id in archive for record in records] == [True, True, False]
    bright, whole = archive.masks_of(records[0])
    assert 0.3 < bright.mean() < 0.7
    assert whole.all()
