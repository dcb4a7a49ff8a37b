"""Stage train_seg on six tiny images: what it writes, that it writes it again, and what it refuses."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from PIL import Image

from sfc import __version__
from sfc.data.manifest import Manifest, Record, read_manifest, write_manifest
from sfc.label_archive import LabelArchive, LabelArchiveWriter
from sfc.model_file import SEGMENTATION, read_facts
from sfc.params import load_params
from sfc.segmentation.largefov import LargeFOV
from sfc.segmentation.models import load_segmenter
from stages.train_seg import main

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = {
    "backbone": {"arch": "resnet18", "weights": "none", "frozen_stages": 3, "batch_norm": "frozen"},
    "precision": "fp32",
    "atrous_rates": [1, 2],
    "steps": 3,
    "batch_size": 2,
    "crop": 24,
    "train_scales": [0.5],
    "lr": 1e-4,
}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder in which train_seg can run: manifest, images and pseudo-labels, one of them all unsure."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    rng = np.random.default_rng(0)
    records = []
    with LabelArchiveWriter(tmp_path / "out/pseudo_labels.zip") as writer:
        for i, size in enumerate([(30, 20), (20, 30), (9, 40), (24, 24), (24, 24), (1, 1)]):
            path = tmp_path / f"{i}.png"
            Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(path)
            records.append(Record(f"im{i}", "train", path, None, *size, (0,), "", "table"))
            label = rng.choice([0, 1, 2, 255], size=size) if i else np.full(size, 255)
            writer.write(f"im{i}", label.astype(np.uint8))
    correct({})
    write_manifest(Manifest(tuple(records), ("cat", "dog")), "out/manifest.csv", "out/classes.json")
    params = yaml.safe_load((ROOT / "presets/voc12.yaml").read_text())
    params["seg"] |= SETTINGS
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    monkeypatch.setenv("SFC_DEVICE", "cpu")
    monkeypatch.setenv("SFC_WORKERS", "0")
    return tmp_path


def correct(labels):
    """What the stage prepare found in dataset.corrected: image id -> label map."""
    with LabelArchiveWriter("out/corrected.zip") as writer:
        for id, label in labels.items():
            writer.write(id, label)


def run():
    return CliRunner().invoke(main)


def test_writes_model_curve_and_metrics_and_the_same_again(project):
    written = ("out/seg.safetensors", "plots/train_seg.csv", "metrics/train_seg.json")
    done = run()
    assert done.exit_code == 0, done.output
    assert load_segmenter("out/seg.safetensors", "cpu").num_classes == 3
    facts = read_facts("out/seg.safetensors", task=SEGMENTATION)
    assert (facts.classes, facts.version) == (("cat", "dog"), __version__)
    assert facts.params == {"seg": load_params().get("seg").model_dump(mode="json")}
    assert (project / "plots/train_seg.csv").read_text().splitlines()[0] == "step,loss,value"
    metrics = json.loads((project / "metrics/train_seg.json").read_text())
    assert {name: metrics[name] for name in ("steps", "images", "classes")} == {"steps": 3, "images": 6, "classes": 3}
    assert "images_corrected" not in metrics
    assert metrics["last"]["loss"] > 0
    assert not (project / ".scratch").exists() or not list((project / ".scratch").rglob("*.pt"))
    first = [(project / name).read_bytes() for name in written]
    assert run().exit_code == 0
    assert [(project / name).read_bytes() for name in written] == first


def test_corrected_masks_replace_the_pseudo_labels_of_their_images(project):
    run()
    before = Path("out/seg.safetensors").read_bytes()
    archive = LabelArchive("out/pseudo_labels.zip")
    labels = {id: archive.read(id) for id in archive.ids}
    changed = {"im1": np.full((20, 30), 2, np.uint8), "im3": np.full((24, 24), 1, np.uint8)}

    correct(changed)
    done = run()
    assert "6 training images, 2 with corrected masks" in done.output
    by_hand = Path("out/seg.safetensors").read_bytes()
    assert by_hand != before
    assert json.loads((project / "metrics/train_seg.json").read_text())["images_corrected"] == 2

    correct({})
    with LabelArchiveWriter("out/pseudo_labels.zip") as writer:
        for id, label in {**labels, **changed}.items():
            writer.write(id, label)
    run()
    assert Path("out/seg.safetensors").read_bytes() == by_hand  # as if they had been the pseudo-labels


def params_with(**changes):
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["dataset"]["negatives"] = True
    params["seg"] |= changes
    Path("params.yaml").write_text(yaml.safe_dump(params))


def test_what_a_corrected_mask_shows_decides_which_images_are_negatives(project):
    manifest = read_manifest("out/manifest.csv", "out/classes.json")
    records = [replace(r, labels=() if r.id in ("im3", "im4") else r.labels) for r in manifest.records]
    write_manifest(replace(manifest, records=tuple(records)), "out/manifest.csv", "out/classes.json")
    negative, ant = np.zeros((24, 24), np.uint8), np.full((24, 24), 1, np.uint8)
    params_with(negative_share=0)

    correct({"im3": negative})
    done = run()
    assert "4 training images, 0 with corrected masks (1 others are negatives)" in done.output
    found = json.loads(Path("metrics/train_seg.json").read_text())
    assert (found["images"], found["images_corrected"]) == (4, 0)

    correct({"im3": ant, "im1": np.zeros((20, 30), np.uint8)})  # to a class, and to none
    done = run()
    assert "4 training images, 1 with corrected masks (1 others are negatives)" in done.output

    correct({"im1": np.full((20, 30), 255, np.uint8)})  # says nothing of classes
    assert "4 training images, 1 with corrected masks" in run().output

    params_with(negative_share=0.5)
    correct({"im3": ant, "im4": ant})
    assert "all 6 training images show a class" in run().output


def test_the_other_model_is_a_param_away(project):
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["seg"] |= {"model": "largefov", "atrous_rates": [2], "train_scales": [], "hsv_jitter": 10}
    params["seg"] |= {"scales": [0.5, 1.5], "scale_draw": "uniform"}
    Path("params.yaml").write_text(yaml.safe_dump(params))
    models = []
    for _ in range(2):
        done = run()
        assert done.exit_code == 0, done.output
        models.append(Path("out/seg.safetensors").read_bytes())
    assert models[0] == models[1]  # dropout and jitter included
    assert type(load_segmenter("out/seg.safetensors", "cpu")) is LargeFOV


def test_weights_the_trunk_cannot_take_are_one_line(project):
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["seg"] |= {"model": "largefov", "atrous_rates": [2]}
    params["seg"]["backbone"]["arch"] = "wideresnet38"
    params["seg"]["backbone"]["weights"] = "resnet38.pth"
    Path("params.yaml").write_text(yaml.safe_dump(params))
    done = run()
    assert done.exit_code == 1
    assert done.output.splitlines()[-1].startswith("Error: seg.backbone.weights: no file resnet38.pth; wideresnet38")


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (np.zeros((30, 21)), "im0 is 30x21, its image 30x20"),
        (np.full((30, 20), 3), "im0 has label 3, but there are 2 classes"),
    ],
)
def test_refuses_labels_that_do_not_fit(project, label, message):
    with LabelArchiveWriter("out/pseudo_labels.zip") as writer:
        for i, size in enumerate([None, (20, 30), (9, 40), (24, 24), (24, 24), (1, 1)]):
            writer.write(f"im{i}", (np.zeros(size) if i else label).astype(np.uint8))
    done = run()
    assert done.exit_code == 1
    assert message in done.output.splitlines()[-1]
    assert not (project / "out/seg.safetensors").exists()
