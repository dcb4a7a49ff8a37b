"""Stage pseudo_labels: both refinements, manifest order, any number of processes."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from click.testing import CliRunner
from PIL import Image

from sfc.coco_masks import encode
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
    save_irn(IrnNetwork(arch="resnet18"), "out/irn.safetensors", params={})
    monkeypatch.setenv("SFC_DEVICE", "cpu")
    monkeypatch.setenv("SFC_WORKERS", "0")
    set_params("irn")
    return tmp_path


def set_params(labels, *, refine=(), **fusion):
    params = yaml.safe_load((ROOT / "presets/voc12.yaml").read_text())
    params["pseudo_labels"]["refine"] = labels
    params["refine"].update(refine)
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


def propose(masks):
    """An archive with proposals of some images: id -> masks."""
    with zipfile.ZipFile("proposals.zip", "w") as archive:
        for id, proposals in masks.items():
            archive.writestr(f"{id}.json", json.dumps([encode(mask) for mask in proposals]))


def test_proposals_vote_on_the_labels(project):
    set_params("crf")
    run()
    _, before = read_all("out/pseudo_labels.zip")
    whole = np.ones(SIZES[0], bool)
    corner = np.zeros(SIZES[1], bool)
    corner[:4, :4] = True
    propose({"im0": [whole], "im1": [corner], "im3": [np.ones(SIZES[3], bool)], "no such": []})
    set_params("crf", refine={"proposals": "proposals.zip", "covered": 0.0})
    run()
    found = json.loads(Path("metrics/pseudo_labels.json").read_text())
    counted = ("images_with_proposals", "proposals_of_images_without_class", "proposals_of_unknown_images")
    assert [found[name] for name in counted] == [2, 1, 1]
    _, after = read_all("out/pseudo_labels.zip")
    assert (after[0] == 1).all()  # of the one class it shows
    assert len(np.unique(after[1][corner])) == 1
    np.testing.assert_array_equal(after[1][~corner], before[1][~corner])
    for i in (2, 3, 4):  # no proposals, no class, no proposals
        np.testing.assert_array_equal(after[i], before[i])
    set_params("crf", refine={"proposals": "proposals.zip", "covered": 1.0})
    run()
    _, after = read_all("out/pseudo_labels.zip")
    assert not after[0].any()  # nobody won it


def test_proposals_vote_on_the_walk_by_any_number_of_workers(project, monkeypatch):
    plain = run()
    rng = np.random.default_rng(0)
    propose({f"im{i}": rng.random((5, *size)) < 0.3 for i, size in enumerate(SIZES)})
    set_params("irn", refine={"proposals": "proposals.zip"})
    voted = run()
    assert voted != plain
    monkeypatch.setenv("SFC_WORKERS", "2")
    assert run() == voted


@pytest.mark.parametrize(
    ("name", "message"),
    [("none.zip", "none.zip: no such file; see refine.proposals"),
     ("proposals.zip", "proposals.zip: no entry has the id of a training image, such as im0.json; rename them")],
)  # fmt: skip
def test_an_archive_of_other_images_is_one_line(project, name, message):
    propose({"IMG_1": []})
    set_params("crf", refine={"proposals": name})
    done = CliRunner().invoke(main)
    assert done.exit_code == 1
    assert done.output.splitlines()[-1] == f"Error: {message}"
    assert not Path("out/pseudo_labels.zip").exists()


def test_what_does_not_vote_is_said(project):
    propose({"im0": [np.ones(SIZES[0], bool)], "im3": [], "IMG_1": [], "IMG_2": []})
    set_params("crf", refine={"proposals": "proposals.zip"})
    said = CliRunner().invoke(main).output
    line = "pseudo_labels: mask proposals of 1 of 5 images vote; 1 images without a class keep their labels; "
    assert f"{line}2 entries are of no training image (IMG_1, ...) and are passed over" in said
    assert "note: refine.proposals: DVC does not see when proposals.zip changes; put it into proposals, or" in said
    propose({"im3": []})
    said = CliRunner().invoke(main)
    assert said.exit_code == 1
    assert "has proposals of images without a class alone" in said.output.splitlines()[-1]


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no torch.distributed")
def test_bytes_do_not_depend_on_the_number_of_processes(project):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as torchrun does
    alone = run()
    torch.set_num_threads(threads)
    Path("out/pseudo_labels.zip").unlink()
    launched("stages.pseudo_labels", processes=2)
    assert Path("out/pseudo_labels.zip").read_bytes() == alone


@pytest.mark.parametrize(("labels", "voted"), [("irn", False), ("irn", True), ("crf", False), ("crf", True)])
def test_goes_on_at_the_shard(project, monkeypatch, labels, voted):
    rng = np.random.default_rng(0)
    propose({f"im{i}": rng.random((5, *size)) < 0.3 for i, size in enumerate(SIZES)})
    set_params(labels, refine={"proposals": "proposals.zip"} if voted else {})
    monkeypatch.setattr(_labels, "SMALLEST", 1)
    outputs = ["out/pseudo_labels.zip", "metrics/pseudo_labels.json"]
    goes_on_after_a_kill(monkeypatch, pseudo_labels, outputs, shards=4)


@pytest.mark.parametrize("changed", ["proposals", "rule", "cams"])
def test_what_votes_belongs_to_unfinished_work(project, monkeypatch, changed):
    """Shards that other proposals, another rule or other CAMs have made are not gone on with."""
    seen = []
    real = pseudo_labels.Scratch

    def scratch(*args, **kwargs):
        made = real(*args, **kwargs)
        seen.append(made.folder)
        return made

    monkeypatch.setattr(pseudo_labels, "Scratch", scratch)
    propose({"im0": [np.ones(SIZES[0], bool)]})
    set_params("crf", refine={"proposals": "proposals.zip"})
    run()
    run()
    assert seen[0] == seen[1]
    if changed == "proposals":
        propose({"im0": [np.eye(*SIZES[0], dtype=bool)]})
    elif changed == "rule":
        set_params("crf", refine={"proposals": "proposals.zip", "covered": 0.9})
    else:
        store = next(Path("out/cams").glob("*.safetensors"))
        content = bytearray(store.read_bytes())
        content[-1] ^= 1
        store.write_bytes(content)
    run()
    assert seen[2] != seen[0]


def test_a_missing_network_is_named(project):
    Path("out/irn.safetensors").unlink()
    done = CliRunner().invoke(main)
    assert done.exit_code == 1
    assert "out/irn.safetensors: no such file; run the stage train_irn first" in done.output.splitlines()[-1]
