import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from click.testing import CliRunner
from PIL import Image

from sfc.data.manifest import Manifest, Record, label_keys, write_manifest
from sfc.dense_crf import refine_cams
from sfc.fusion import fuse, normalise_scales
from sfc.label_archive import LabelArchive
from sfc.localization.store import CamWriter
from stages import _labels, crf
from stages._labels import SMALLEST
from stages.crf import main
from tests.stages.running import goes_on_after_a_kill, launched

ROOT = Path(__file__).resolve().parents[2]
CRF = {
    "mode": "label",
    "iterations": 3,
    "gt_prob": 0.7,
    "gaussian_sxy": 3.0,
    "gaussian_compat": 3.0,
    "bilateral_sxy": 10.0,
    "bilateral_srgb": 13.0,
    "bilateral_compat": 10.0,
    "confident_bg_scale": 0.5,
}
FUSION = {"weights": {"classifier": 1.0, "prototype": 0.7}, "fg_gain": 2.0, "bg_offset": 0.4}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder in which crf can run; returns the records and each one's raw maps."""
    return make_project(tmp_path, monkeypatch, [(0,), (0, 1), (), (1,), (1,)])


def make_project(tmp_path, monkeypatch, shown):
    """Of images that show these classes, the last one not for training."""
    pytest.importorskip("pydensecrf")
    monkeypatch.chdir(tmp_path)
    Path("out/cams").mkdir(parents=True)
    rng = np.random.default_rng(0)
    records, maps = [], {}
    for i, labels in enumerate(shown):
        path = Path(f"{i}.png")
        Image.fromarray(rng.integers(0, 256, (20, 26 + i, 3), dtype=np.uint8)).save(path)
        split = "train" if i < len(shown) - 1 else "val"
        records.append(Record(f"im{i}", split, path, None, 20, 26 + i, labels, "", "table"))
        maps[f"im{i}"] = [rng.random((2, 1 + len(labels), 2, 2), dtype=np.float32)]
    write_manifest(Manifest(tuple(records), ("cat", "dog")), "out/manifest.csv", "out/classes.json")
    kinds = ("classifier", "prototype")
    writer = CamWriter("out/cams", kinds=kinds, fused=kinds, scales=(1.0,), ids=list(maps))
    for id, arrays in maps.items():
        writer.write(id, arrays)
    writer.finish()
    params = yaml.safe_load((ROOT / "presets/voc12.yaml").read_text())
    params["crf"] = CRF
    params["fusion"]["sfc"]["crf"] = FUSION
    Path("params.yaml").write_text(yaml.safe_dump(params))
    return records, maps


@pytest.mark.parametrize("workers", ["1", "2"])
def test_labels_of_the_train_split(project, monkeypatch, workers):
    monkeypatch.setenv("SFC_WORKERS", workers)
    records, maps = project
    done = CliRunner().invoke(main)
    assert done.exit_code == 0, done.output
    refined, confident = LabelArchive("out/crf.zip"), LabelArchive("out/confident.zip")
    assert refined.ids == confident.ids == ("im0", "im1", "im2", "im3")
    values = []
    for record in records[:4]:
        normalised = normalise_scales(maps[record.id], (record.height, record.width))
        cams = fuse(normalised, ("classifier", "prototype"), **FUSION).numpy()
        expected = refine_cams(np.array(Image.open(record.image)), cams, label_keys(record.labels), **CRF)
        np.testing.assert_array_equal(refined.read(record.id), expected[0])
        np.testing.assert_array_equal(confident.read(record.id), expected[1])
        values += expected[1].ravel().tolist()
    metrics = json.loads(Path("metrics/crf.json").read_text())
    assert (metrics["images"], metrics["images_without_class"], metrics["split"]) == (4, 1, "train")
    counts = {"background": values.count(0), "ignored": values.count(255)}
    counts["foreground"] = len(values) - sum(counts.values())
    for part, count in counts.items():
        assert count > 0
        assert metrics[part] == pytest.approx(count / len(values), abs=1e-6)


@pytest.mark.parametrize("kind", [0, 1])
def test_the_kind_that_stands_for_the_method_is_refined_alone(project, monkeypatch, kind):
    monkeypatch.setenv("SFC_WORKERS", "1")
    records, maps = project
    index = json.loads(Path("out/cams/index.json").read_text())
    index["fused"] = [index["kinds"][kind]]
    Path("out/cams/index.json").write_text(json.dumps(index))
    fusion = {"weights": {index["kinds"][kind]: 1.0}, "fg_gain": 2.0, "bg_offset": 0.4}
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["train_cam"]["method"] = method = ("base", "sipe")[kind]
    params["fusion"][method]["crf"] = fusion
    Path("params.yaml").write_text(yaml.safe_dump(params))
    assert CliRunner().invoke(main).exit_code == 0
    refined = LabelArchive("out/crf.zip")
    for record in records[:4]:
        normalised = normalise_scales(maps[record.id], (record.height, record.width))[kind : kind + 1]
        cams = fuse(normalised, index["fused"], **fusion).numpy()
        expected = refine_cams(np.array(Image.open(record.image)), cams, label_keys(record.labels), **CRF)
        np.testing.assert_array_equal(refined.read(record.id), expected[0])


def test_same_bytes_again_over_read_only_results(project, monkeypatch):
    monkeypatch.setenv("SFC_WORKERS", "1")
    paths = [Path("out/crf.zip"), Path("out/confident.zip"), Path("metrics/crf.json")]
    assert CliRunner().invoke(main).exit_code == 0
    first = [path.read_bytes() for path in paths]
    for path in paths:
        path.chmod(0o444)
    assert CliRunner().invoke(main).exit_code == 0
    assert [path.read_bytes() for path in paths] == first


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no torch.distributed")
def test_same_bytes_from_several_processes(tmp_path, monkeypatch):
    make_project(tmp_path, monkeypatch, [(0,), (0, 1), ()] * SMALLEST)  # three shards
    monkeypatch.setenv("SFC_WORKERS", "1")
    paths = [Path("out/crf.zip"), Path("out/confident.zip"), Path("metrics/crf.json")]
    assert CliRunner().invoke(main).exit_code == 0
    first = [path.read_bytes() for path in paths]
    for path in paths:
        path.unlink()
    launched("stages.crf", processes=2)
    assert [path.read_bytes() for path in paths] == first


def test_goes_on_at_the_shard(project, monkeypatch):
    monkeypatch.setenv("SFC_WORKERS", "1")
    monkeypatch.setattr(_labels, "SMALLEST", 1)
    outputs = ["out/crf.zip", "out/confident.zip", "metrics/crf.json"]
    goes_on_after_a_kill(monkeypatch, crf, outputs, shards=4, archives=2)


def test_cams_of_other_classes_are_one_line(project, monkeypatch):
    monkeypatch.setenv("SFC_WORKERS", "1")
    records, _ = project
    records[1] = dataclasses.replace(records[1], labels=(0,))
    write_manifest(Manifest(tuple(records), ("cat", "dog")), "out/manifest.csv", "out/classes.json")
    done = CliRunner().invoke(main)
    assert done.exit_code == 1
    message = "Error: out/cams: im1 has 2 class maps but 1 labels in the manifest; run infer_cam again"
    assert done.output.splitlines()[-1] == message
    assert not Path("out/crf.zip").exists()


def test_cams_of_another_method_are_one_line(project, monkeypatch):
    monkeypatch.setenv("SFC_WORKERS", "1")
    index = json.loads(Path("out/cams/index.json").read_text())
    Path("out/cams/index.json").write_text(json.dumps(index | {"fused": ["classifier"]}))
    done = CliRunner().invoke(main)
    assert done.exit_code == 1
    assert done.output.startswith("Error: fusion: weights of classifier, prototype, but the CAMs that stand for the me")


def test_a_split_without_cams_is_one_line(project, monkeypatch):
    monkeypatch.setenv("SFC_WORKERS", "2")
    index = json.loads(Path("out/cams/index.json").read_text())
    index["ids"] = index["ids"][1:]
    Path("out/cams/index.json").write_text(json.dumps(index))
    done = CliRunner().invoke(main)
    assert done.exit_code == 1
    assert done.output.splitlines()[-1].startswith("Error: out/cams: no CAM of image im0; add its split to cam.splits")
    assert not Path("out/crf.zip").exists()
    assert not Path("out/confident.zip").exists()
