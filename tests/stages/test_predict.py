"""Stage predict: manifest order, any number of processes, no ground truth."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from click.testing import CliRunner

from sfc.data.manifest import Manifest, write_manifest
from sfc.label_archive import LabelArchive
from sfc.segmentation.deeplab import DeepLabV2
from sfc.segmentation.models import save_segmenter
from stages import _labels, predict
from stages.predict import main
from tests.data.folder import record
from tests.stages.running import goes_on_after_a_kill, launched

ROOT = Path(__file__).resolve().parents[2]
SIZES = [(24, 40), (40, 24), (24, 40), (1, 9), (24, 40)]


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder in which predict can run: manifest, images and an untrained model; the masks it names do not exist."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    mask = tmp_path / "no mask.png"
    records = [record(tmp_path / f"im{i}.png", size, split="val", mask=mask, seed=i) for i, size in enumerate(SIZES)]
    write_manifest(Manifest(tuple(records), ("cat", "dog")), "out/manifest.csv", "out/classes.json")
    write_model(3)
    params = yaml.safe_load((ROOT / "presets/voc12.yaml").read_text())
    params["predict"] |= {"precision": "fp32", "batch_size": 2, "flip": True}
    params["predict"]["crf"]["enabled"] = False
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    monkeypatch.setenv("SFC_DEVICE", "cpu")
    monkeypatch.setenv("SFC_WORKERS", "1")
    return tmp_path


def write_model(num_classes):
    torch.manual_seed(0)
    network = DeepLabV2(arch="resnet18", num_classes=num_classes, atrous_rates=(1, 2), image_scale=1.0)
    torch.nn.init.normal_(network.aspp.branches[0].weight, std=0.3)
    save_segmenter(network, "out/seg.safetensors")


def run():
    return CliRunner().invoke(main)


def test_writes_every_image_in_manifest_order(project):
    done = run()
    assert done.exit_code == 0, done.output
    archive = LabelArchive("out/predictions.zip")
    assert archive.ids == tuple(f"im{i}" for i in range(len(SIZES)))
    labels = [archive.read(id) for id in archive.ids]
    assert [label.shape for label in labels] == SIZES
    metrics = json.loads(Path("metrics/predict.json").read_text())
    foreground = sum(np.count_nonzero(x) for x in labels) / sum(x.size for x in labels)
    assert metrics == {"split": "val", "images": 5, "foreground_fraction": pytest.approx(foreground, abs=1e-6)}
    assert sorted(path.name for path in Path("out").iterdir()) == [
        "classes.json",
        "manifest.csv",
        "predictions.zip",
        "seg.safetensors",
    ]


def test_another_split_can_be_predicted(project):
    text = Path("out/manifest.csv").read_text()
    Path("out/manifest.csv").write_text(text.replace(",val,", ",test,", 2))
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["predict"]["split"] = "test"
    Path("params.yaml").write_text(yaml.safe_dump(params))
    done = run()
    assert done.exit_code == 0, done.output
    assert LabelArchive("out/predictions.zip").ids == ("im0", "im1")
    assert json.loads(Path("metrics/predict.json").read_text())["split"] == "test"


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no torch.distributed")
def test_bytes_do_not_depend_on_the_number_of_processes(project):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as torchrun does
    done = run()
    torch.set_num_threads(threads)
    assert done.exit_code == 0, done.output
    alone = Path("out/predictions.zip").read_bytes()
    Path("out/predictions.zip").unlink()
    launched("stages.predict", processes=2)
    assert Path("out/predictions.zip").read_bytes() == alone


def test_goes_on_at_the_shard(project, monkeypatch):
    monkeypatch.setattr(_labels, "SMALLEST", 1)
    goes_on_after_a_kill(monkeypatch, predict, ["out/predictions.zip", "metrics/predict.json"], shards=4)


def test_refuses_a_model_of_other_classes(project):
    write_model(4)
    done = run()
    assert done.exit_code == 1
    assert "out/seg.safetensors tells apart 3 classes" in done.output.splitlines()[-1]
