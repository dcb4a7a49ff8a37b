"""Stage pseudo_labels: both refinements, manifest order, any number of processes."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from click.testing import CliRunner
from PIL import Image

from sfc.data.images import IGNORE
from sfc.data.manifest import Manifest, Record, write_manifest
from sfc.irn.network import IrnNetwork, save_irn
from sfc.label_archive import LabelArchive, LabelArchiveWriter
from sfc.localization.store import CamWriter
from stages import _labels, pseudo_labels
from stages.pseudo_labels import main
from tests.stages.running import goes_on_after_a_kill, launched

ROOT = Path(__file__).resolve().parents[2]
SIZES = [(24, 40), (40, 24), (24, 40), (9, 30), (24, 40)]
LABELS = [(0,), (0, 1), (1,), (), (0,)]


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder in which pseudo_labels can run; the masks that the manifest names do not exist."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out/cams").mkdir(parents=True)
    rng = np.random.default_rng(0)
    records = []
    ids = [f"im{i}" for i in range(len(SIZES))]
    kinds = ("classifier", "prototype")
    cams = CamWriter("out/cams", kinds=kinds, fused=kinds, scales=(1.0,), ids=ids)
    with LabelArchiveWriter("out/crf.zip") as crf:
        for i, (size, labels) in enumerate(zip(SIZES, LABELS, strict=True)):
            path = tmp_path / f"{i}.png"
            Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(path)
            records.append(Record(ids[i], "train", path, tmp_path / "no mask.png", *size, labels, "", "table"))
            cams.write(ids[i], [rng.random((2, 1 + len(labels), 3, 3), dtype=np.float32)])
            crf.write(ids[i], rng.choice([0, IGNORE, *(j + 1 for j in labels)], size=size).astype(np.uint8))
    cams.finish()
    write_manifest(Manifest(tuple(records), ("cat", "dog")), "out/manifest.csv", "out/classes.json")
    torch.manual_seed(0)
    save_irn(IrnNetwork(arch="resnet18"), "out/irn.safetensors")
    monkeypatch.setenv("SFC_DEVICE", "cpu")
    monkeypatch.setenv("SFC_WORKERS", "0")
    set_params("irn")
    return tmp_path


def set_params(refine, **fusion):
    params = yaml.safe_load((ROOT / "presets/voc12.yaml").read_text())
    params["pseudo_labels"]["refine"] = refine
    params["walk"] |= {"precision": "fp32", "batch_size": 2}
    params["fusion"]["sfc"]["walk"] |= fusion
    Path("params.yaml").write_text(yaml.safe_dump(params))


def run():
    done = CliRunner().invoke(main)
    assert done.exit_code == 0, done.output
    return Path("out/pseudo_labels.zip").read_bytes()


def read_all(path):
    archive = LabelArchive(path)
    return archive.ids, [archive.read(id) for id in archive.ids]


def test_walks_every_image_in_manifest_order(project):
    before = {path.name for path in Path("out").iterdir()}
    first = run()
    ids, labels = read_all("out/pseudo_labels.zip")
    assert ids == tuple(f"im{i}" for i in range(len(SIZES)))
    assert [label.shape for label in labels] == SIZES
    for label, present in zip(labels, LABELS, strict=True):
        assert set(np.unique(label)) <= {0, *(i + 1 for i in present)}
    pixels = np.concatenate([label.ravel() for label in labels])
    assert json.loads(Path("metrics/pseudo_labels.json").read_text()) == {
        "split": "train",
        "images": 5,
        "images_without_class": 1,
        "refine": "irn",
        "foreground": pytest.approx((pixels > 0).mean(), abs=1e-6),
        "background": pytest.approx((pixels == 0).mean(), abs=1e-6),
    }
    assert {path.name for path in Path("out").iterdir()} == before | {"pseudo_labels.zip"}
    assert run() == first


def test_params_of_the_walk_reach_it(project):
    run()
    _, before = read_all("out/pseudo_labels.zip")
    set_params("irn", background=1.0)
    run()
    _, after = read_all("out/pseudo_labels.zip")
    assert sum(map(np.count_nonzero, after)) < sum(map(np.count_nonzero, before))


def test_crf_labels_are_taken_over(project):
    set_params("crf")
    Path("out/irn.safetensors").unlink()
    run()
    ids, labels = read_all("out/pseudo_labels.zip")
    crf_ids, crf_labels = read_all("out/crf.zip")
    assert ids == crf_ids
    for label, crf in zip(labels, crf_labels, strict=True):
        np.testing.assert_array_equal(label, crf)
    metrics = json.loads(Path("metrics/pseudo_labels.json").read_text())
    pixels = np.concatenate([label.ravel() for label in labels])
    assert metrics["refine"] == "crf"
    assert metrics["foreground"] == pytest.approx(((pixels > 0) & (pixels < IGNORE)).mean(), abs=1e-6)


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no torch.distributed")
def test_bytes_do_not_depend_on_the_number_of_processes(project):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as torchrun does
    alone = run()
    torch.set_num_threads(threads)
    Path("out/pseudo_labels.zip").unlink()
    launched("stages.pseudo_labels", processes=2)
    assert Path("out/pseudo_labels.zip").read_bytes() == alone


@pytest.mark.parametrize("refine", ["irn", "crf"])
def test_goes_on_at_the_shard(project, monkeypatch, refine):
    set_params(refine)
    monkeypatch.setattr(_labels, "SMALLEST", 1)
    outputs = ["out/pseudo_labels.zip", "metrics/pseudo_labels.json"]
    goes_on_after_a_kill(monkeypatch, pseudo_labels, outputs, shards=4)


def test_a_missing_network_is_named(project):
    Path("out/irn.safetensors").unlink()
    done = CliRunner().invoke(main)
    assert done.exit_code == 1
    assert "out/irn.safetensors: no such file; run the stage train_irn first" in done.output.splitlines()[-1]
