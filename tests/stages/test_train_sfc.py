"""Stage train_sfc on six tiny images by every method: what it writes and says, and that infer_cam reads it."""

import csv
import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from sfc.calibration.network import NETWORKS, load_cam_network
from sfc.data.manifest import Manifest, write_manifest
from sfc.localization.store import CamStore
from stages import infer_cam, train_sfc
from stages._methods import METHODS
from tests.data.folder import record

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = {
    "backbone": {"arch": "resnet18", "weights": "none", "frozen_stages": 3, "batch_norm": "frozen"},
    "precision": "fp32",
    "epochs": 2,
    "batch_size": 3,
    "crop": 48,
    "long_side": [32, 64],
}
LOSSES = {"cam": {"cls"}, "sipe": {"cls", "proto"}, "sfc": {"cls", "proto", "scale"}}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder in which train_sfc can run: manifest, images and label statistics."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    sizes = [(30, 20), (20, 30), (9, 40), (24, 24), (24, 24), (40, 40)]
    records = [
        record(tmp_path / f"im{i}.png", size, ((0,), (1,), (0, 1))[i % 3], seed=i) for i, size in enumerate(sizes)
    ]
    write_manifest(Manifest(tuple(records), ("cat", "dog")), "out/manifest.csv", "out/classes.json")
    Path("out/label_stats.csv").write_text("class,n,demand,n_extra,dc\ncat,4,0,1,1.25\ndog,4,0,1,0.75\n")
    write_params()
    monkeypatch.setenv("SFC_DEVICE", "cpu")
    monkeypatch.setenv("SFC_WORKERS", "0")


def write_params(**changes):
    params = yaml.safe_load((ROOT / "presets/voc12.yaml").read_text())
    params["sfc"] |= SETTINGS
    params["cam"] |= {"scales": [1.0], "precision": "fp32"}
    for dotted, value in changes.items():
        section, name = dotted.split("__")
        params[section][name] = value
    Path("params.yaml").write_text(yaml.safe_dump(params))


def run(stage=train_sfc):
    done = CliRunner().invoke(stage.main)
    assert done.exit_code == 0, done.output
    return done.output


def test_there_is_a_network_for_every_method():
    assert METHODS.keys() == NETWORKS.keys()


@pytest.mark.parametrize("method", METHODS)
def test_method_is_all_there_is_to_set(project, method):
    write_params(sfc__method=method)
    said = run()
    with open("plots/train_sfc.csv") as file:
        rows = list(csv.DictReader(file))
    (plot,) = [
        next(iter(entry.values()))["y"]["plots/train_sfc.csv"]
        for entry in yaml.safe_load((ROOT / "dvc.yaml").read_text())["plots"]
        if isinstance(entry, dict) and "plots/train_sfc.csv" in next(iter(entry.values()))["y"]
    ]
    assert list(rows[0]) == ["step", *plot]  # DVC would leave out the whole plot
    assert {name for name, value in rows[0].items() if value} == {"step", "loss", *LOSSES[method]}
    assert set(json.loads(Path("metrics/train_sfc.json").read_text())["last"]) == {"loss", *LOSSES[method]}
    assert ("does not read ibr, msdw" in said) == (method != "sfc")
    assert ("+ 4 images" in said) == (method == "sfc")  # the bank's
    network = load_cam_network("out/sfc.safetensors", "cpu")
    assert type(network) is NETWORKS[method]
    run(infer_cam)
    store = CamStore("out/cams")
    assert (store.kinds, store.fused) == (network.kinds, network.fused)


@pytest.mark.parametrize("method", ["cam", "sipe"])
def test_what_a_method_does_not_read_does_not_change_its_bytes(project, method):
    models = []
    for change in ({}, {"ibr__n": 1, "msdw__w_proto": 0.1, "sfc__proto_norm": "none"}):
        write_params(sfc__method=method, **change)
        run()
        models.append(Path("out/sfc.safetensors").read_bytes())
    assert models[0] == models[1]


def test_the_weight_of_gsc_counts(project):
    models = []
    for weight in (1.0, 2.0):
        write_params(sfc__method="sipe", sipe__w_gsc=weight)
        run()
        models.append(Path("out/sfc.safetensors").read_bytes())
    assert models[0] != models[1]
