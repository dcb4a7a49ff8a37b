import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from sfc.data.manifest import read_manifest
from stages.prepare import main
from tests.data.folder import make_voc

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def project(tmp_path, monkeypatch):
    params = yaml.safe_load((ROOT / "presets/voc12.yaml").read_text())
    params["dataset"] |= {"kind": "voc", "root": "data", "train": "train", "val": "val", "labels": None}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    make_voc(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_outputs(project):
    table = "image_id,split,classes\nt0,train,ant bee\nt1,train,\nt2,train,bee\n"
    (project / "data/labels.csv").write_text(table)
    result = CliRunner().invoke(main)
    assert result.exit_code == 0, result.output
    assert "2 training, 1 without a label left out and 2 validation images of 3 classes" in result.output
    manifest = read_manifest("out/manifest.csv", "out/classes.json")
    assert [(r.id, r.split, r.label_source) for r in manifest.records] == [
        ("t0", "train", "table"),
        ("t2", "train", "table"),
        ("v0", "val", "masks"),
        ("v1", "val", "masks"),
    ]
    assert manifest.records[0].image == Path("data/JPEGImages/t0.jpg")  # as portable as dataset.root
    assert json.loads(Path("metrics/dataset.json").read_text()) == {
        "classes": 3,
        "train": {
            "images": 2,
            "images_with_mask": 2,
            "images_without_label": 1,
            "images_per_class_largest": 2,
            "images_per_class_smallest": 0,
            "classes_per_image": 1.5,
            "label_source": "table",
        },
        "val": {
            "images": 2,
            "images_with_mask": 2,
            "images_per_class_largest": 1,
            "images_per_class_smallest": 0,
            "classes_per_image": 0.5,
            "label_source": "masks",
        },
    }


def test_fault_is_one_clear_message_and_leaves_no_output(project):
    (project / "data/JPEGImages/t1.jpg").write_bytes(b"broken")
    result = CliRunner().invoke(main)
    assert result.exit_code == 1
    assert "Error: data: data/JPEGImages/t1.jpg: does not decode" in result.output
    assert not (project / "out/manifest.csv").exists()
