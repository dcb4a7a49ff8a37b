"""Stage train_irn on six tiny images: what it writes, that it writes it again, and what it refuses."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

from sfc.data.manifest import Manifest, write_manifest
from sfc.irn.network import IrnNetwork, load_irn
from sfc.label_archive import LabelArchiveWriter
from sfc.model_file import IRN, read_facts
from stages.train_irn import main
from tests.data.folder import record

ROOT = Path(__file__).resolve().parents[2]
SIZES = [(50, 60), (60, 50), (44, 44), (44, 44), (9, 70), (1, 1)]
SETTINGS = {
    "backbone": {"arch": "resnet18", "weights": "cam", "frozen_stages": 5, "batch_norm": "frozen"},
    "precision": "fp32",
    "epochs": 2,
    "batch_size": 3,
    "crop": 40,
    "radius": 3,
}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder in which train_irn can run: manifest, images, confident labels and a trunk."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    records = [record(tmp_path / f"im{i}.png", size, seed=i) for i, size in enumerate(SIZES)]
    write_manifest(Manifest(tuple(records), ("cat", "dog")), "out/manifest.csv", "out/classes.json")
    write_labels(dict(enumerate(SIZES)))
    torch.manual_seed(1)
    trunk = IrnNetwork(arch="resnet18").backbone
    state = {f"backbone.{name}": value.contiguous() for name, value in trunk.state_dict().items()}
    save_file(state, "out/cam.safetensors", metadata={"config": "{}"})
    params = yaml.safe_load((ROOT / "presets/voc12.yaml").read_text())
    params["irn"] |= SETTINGS
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    monkeypatch.setenv("SFC_DEVICE", "cpu")
    monkeypatch.setenv("SFC_WORKERS", "0")
    return tmp_path


def write_labels(sizes):
    rng = np.random.default_rng(0)
    with LabelArchiveWriter("out/confident.zip") as writer:
        for i, size in sizes.items():
            writer.write(f"im{i}", rng.choice([0, 1, 2, 255], size=size).astype(np.uint8))


def run():
    return CliRunner().invoke(main)


def test_writes_model_curve_and_metrics_and_the_same_again(project):
    written = [Path("out/irn.safetensors"), Path("plots/train_irn.csv"), Path("metrics/train_irn.json")]
    done = run()
    assert done.exit_code == 0, done.output
    network = load_irn("out/irn.safetensors", "cpu")
    assert read_facts("out/irn.safetensors", task=IRN).params["irn"]["radius"] == SETTINGS["radius"]
    trunk = load_file("out/cam.safetensors")
    assert all(torch.equal(value, trunk[f"backbone.{name}"]) for name, value in network.backbone.state_dict().items())
    assert written[1].read_text().splitlines()[0] == "step,loss,value"
    metrics = json.loads(written[2].read_text())
    assert (metrics["steps"], metrics["images"]) == (4, 6)
    last = metrics["last"]
    assert last["loss"] == pytest.approx((last["positive"] + last["negative"]) / 2, abs=2e-6)
    assert not list(project.rglob("*.pt"))
    first = [path.read_bytes() for path in written]
    assert run().exit_code == 0
    assert [path.read_bytes() for path in written] == first


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        (dict(enumerate([(50, 61), *SIZES[1:]])), "out/confident.zip: im0 is 50x61, its image 50x60"),
        (dict(enumerate(SIZES[:5])), "out/confident.zip: no label map of image im5"),
    ],
)
def test_refuses_labels_that_do_not_fit(project, sizes, message):
    write_labels(sizes)
    done = run()
    assert done.exit_code == 1
    assert message in done.output.splitlines()[-1]
    assert not Path("out/irn.safetensors").exists()


def test_refuses_a_crop_without_pairs(project):
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["irn"]["radius"] = 10
    Path("params.yaml").write_text(yaml.safe_dump(params))
    done = run()
    assert done.exit_code == 1
    assert "irn.crop: its label map of 10x10" in done.output.splitlines()[-1]
