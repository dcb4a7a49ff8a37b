"""Stage predict: manifest order, any number of processes, no ground truth."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from sfc.label_archive import LabelArchive
from stages import _labels, predict
from stages.predict import main
from tests.stages.predict_project import SIZES, set_predict, write_model, write_project
from tests.stages.running import goes_on_after_a_kill, launched


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SFC_DEVICE", "cpu")
    monkeypatch.setenv("SFC_WORKERS", "1")
    write_project(tmp_path)


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
    set_predict(split="test")
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


@pytest.mark.parametrize("classes", [("cat", "dog", "cow"), ("dog", "cat")])
def test_refuses_a_model_of_other_classes(project, classes):
    write_model(*classes)
    done = run()
    assert done.exit_code == 1
    wanted = f"tells apart {len(classes)} classes ({', '.join(classes)}), out/classes.json has 2 (cat, dog); run the "
    assert f"out/seg.safetensors {wanted}stage train_seg again" in done.output.splitlines()[-1]
