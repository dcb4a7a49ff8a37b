"""Stage train_cam on six tiny images by every method: what it writes and says, and that infer_cam reads it."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torchvision
import yaml
from click.testing import CliRunner

from sfc.data.manifest import Manifest, write_manifest
from sfc.localization.store import CamStore
from sfc.methods import METHODS, load_cam_network
from sfc.model_file import CAM, read_facts
from sfc.params import load_params
from stages import infer_cam, label_stats, train_cam
from tests.data.folder import record
from tests.methods.tiny import network

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = {
    "backbone": {"arch": "resnet18", "weights": "none", "frozen_stages": 3, "batch_norm": "frozen"},
    "precision": "fp32",
    "epochs": 2,
    "batch_size": 3,
    "crop": 48,
    "long_side": [32, 64],
}
LOSSES = {"base": {"cls"}, "sipe": {"cls", "proto"}, "sfc": {"cls", "proto", "scale"}}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder in which label_stats and train_cam can run: manifest, images and params."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    sizes = [(30, 20), (20, 30), (9, 40), (24, 24), (24, 24), (40, 40)]
    records = [
        record(tmp_path / f"im{i}.png", size, ((0,), (1,), (0, 1))[i % 3], seed=i) for i, size in enumerate(sizes)
    ]
    write_manifest(Manifest(tuple(records), ("cat", "dog")), "out/manifest.csv", "out/classes.json")
    monkeypatch.setenv("SFC_DEVICE", "cpu")
    monkeypatch.setenv("SFC_WORKERS", "0")


def write_params(method, **changes):
    params = yaml.safe_load((ROOT / "presets/voc12.yaml").read_text())
    params["train_cam"] |= SETTINGS | {"method": method}
    params["cam"] |= {"scales": [1.0], "precision": "fp32"}
    for dotted, value in changes.items():
        section, name = dotted.split("__")
        params[section][name] = value
    Path("params.yaml").write_text(yaml.safe_dump(params))


def run(*stages, status=0):
    for stage in stages:
        done = CliRunner().invoke(stage.main)
        assert done.exit_code == status, done.output
    return done.output


@pytest.mark.parametrize("method", METHODS)
def test_method_is_all_there_is_to_set(project, method):
    write_params(method)
    run(label_stats, train_cam)
    with open("plots/train_cam.csv") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["step", "loss", "value"]
    assert {row["loss"] for row in rows} == {"loss", *METHODS[method].losses, *METHODS[method].measures}
    metrics = json.loads(Path("metrics/train_cam.json").read_text())
    assert set(metrics["last"]) == {"loss", *METHODS[method].losses}
    assert set(metrics.get("measures", {})) == set(METHODS[method].measures)
    trained = load_cam_network("out/cam.safetensors", "cpu")
    assert type(trained) is METHODS[method].network
    facts = read_facts("out/cam.safetensors", task=CAM)
    sections = {name: load_params().get(name) for name in ("train_cam", *METHODS[method].sections)}
    assert facts.params == {name: section.model_dump(mode="json") for name, section in sections.items()}
    assert list(facts.classes) == json.loads(Path("out/classes.json").read_text())
    run(infer_cam)
    store = CamStore("out/cams")
    assert (store.kinds, store.fused) == (trained.kinds, trained.fused)


@pytest.mark.parametrize("method", LOSSES)
def test_the_losses_of_the_methods_here(method):
    assert set(METHODS[method].losses) == LOSSES[method]


@pytest.mark.parametrize("method", ["base", "sipe"])
def test_what_a_method_does_not_read_changes_nothing_that_it_trains_on(project, method):
    made = []
    for change in ({}, {"ibr__n": 1, "msdw__w_proto": 0.1, "sfc__proto_norm": "none", "dc__norm": "eq6"}):
        write_params(method, **change)
        run(label_stats)
        made.append(Path("out/method.json").read_bytes())
    assert made[0] == made[1]
    assert json.loads(made[0])["dc"] is None


def test_sfc_is_given_its_params_and_the_distribution_coefficients(project):
    write_params("sfc", sipe__w_gsc=3.0)
    run(label_stats)
    found = json.loads(Path("out/method.json").read_text())
    assert (found["method"], list(found["params"])) == ("sfc", ["dc", "ibr", "msdw", "sfc"])
    table = list(csv.DictReader(Path("out/label_stats.csv").read_text().splitlines()))
    assert found["dc"] == [float(row["dc"]) for row in table]


def test_params_that_were_edited_since_are_refused(project):
    write_params("sfc")
    run(label_stats)
    for change in ({"sfc__pcm_iters": 1}, {"ibr__n": 1}, {"msdw__w_scale": 0.5}):
        write_params("sfc", **change)
        said = run(train_cam, status=1).splitlines()[-1]
        assert said == (
            "Error: out/method.json: made with other params than those in params.yaml; run the stage label_stats again"
        )
    write_params("base")
    assert "run the stage label_stats again" in run(train_cam, status=1)
    write_params("sfc")
    written = json.loads(Path("out/method.json").read_text())
    for damaged in (None, [1.0], ["a", "b"], "ab"):
        Path("out/method.json").write_text(json.dumps(written | {"dc": damaged}))
        assert "out/method.json: not what the stage label_stats writes" in run(train_cam, status=1)
    Path("out/method.json").write_text("[]")
    assert "out/method.json: not what the stage label_stats writes" in run(train_cam, status=1)
    Path("out/method.json").unlink()
    assert "out/method.json: no such file; run the stage label_stats first" in run(train_cam, status=1)


def test_a_loss_without_a_name_in_the_curve_is_refused(project, monkeypatch):
    monkeypatch.setitem(METHODS, "sipe", replace(METHODS["sipe"], losses=("cls",)))
    write_params("sipe")
    run(label_stats)
    said = run(train_cam, status=1).splitlines()[-1]
    assert said.startswith("Error: train_cam: the objective returns proto, which would be lost; name it among the loss")
    assert not Path("out/cam.safetensors").exists()


def test_a_name_in_the_curve_without_a_loss_is_said(project, monkeypatch):
    monkeypatch.setitem(METHODS, "base", replace(METHODS["base"], losses=("cls", "proto"), measures=("peak",)))
    write_params("base")
    run(label_stats)
    assert "\ntrain_cam: the curve has no proto, peak: the training gave no value of it" in run(train_cam)


def test_the_weight_of_gsc_counts(project):
    models = []
    for weight in (1.0, 2.0):
        write_params("sipe", sipe__w_gsc=weight)
        run(label_stats, train_cam)
        models.append(Path("out/cam.safetensors").read_bytes())
    assert models[0] != models[1]


def test_a_training_says_when_the_background_has_no_seed(project):
    """Two products of an untrained network flatten the map; seeds from its own range mend it."""
    line = "% of the images no pixel is a seed of the background, so its prototype is undefined"
    said = {}
    for seed_range in ("none", "image"):
        write_params("sfc", sfc__pcm_iters=2)
        params = yaml.safe_load(Path("params.yaml").read_text())
        params["sfc"]["prototype"]["seed_range"] = seed_range
        params["train_cam"]["epochs"] = 6  # 12 steps: two rows of the curve
        Path("params.yaml").write_text(yaml.safe_dump(params))
        run(label_stats)
        said[seed_range] = [text for text in run(train_cam).splitlines() if line in text]
    assert [text.split(" in ")[0] for text in said["none"]] == ["train_cam: at step 10,", "train_cam:"]
    assert said["image"] == []


def test_the_schedule_holds_the_lr(project):
    steps, models = [], []
    for hold in (0.0, 0.5):
        write_params("base", train_cam__schedule={"hold": hold})
        run(label_stats, train_cam)
        steps.append(json.loads(Path("metrics/train_cam.json").read_text())["lr_steps"])
        models.append(Path("out/cam.safetensors").read_bytes())
    assert steps == pytest.approx([sum((1 - s / 4) ** 0.9 for s in range(4)), 2 + 1 + 0.5**0.9])
    assert models[0] != models[1]


def test_the_trunk_starts_from_its_weights(project):
    torch.manual_seed(5)
    start = torchvision.models.resnet18().state_dict()
    torch.save(start, "trunk.pt")
    write_params("base", train_cam__backbone=SETTINGS["backbone"] | {"weights": "trunk.pt"})
    run(label_stats, train_cam)
    trained = load_cam_network("out/cam.safetensors", "cpu").backbone.state_dict()
    torch.testing.assert_close(trained["conv1.weight"], start["conv1.weight"])  # frozen: as the file has it


def test_heads_learn_at_their_own_rate(project):
    write_params("sfc", train_cam__lr=0.1, train_cam__head_lr_scale=7.0)
    groups = train_cam._optimiser(network(), load_params().get("train_cam")).param_groups
    assert [group["lr"] for group in groups] == [0.1, pytest.approx(0.7)]
