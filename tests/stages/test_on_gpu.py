"""Every stage that uses a device gives on a GPU what it gives on the CPU, goes on there, and releases its memory.

All of it runs without a GPU, too, on a CPU that sums in another order: then only the device is missing.
"""

import csv
import json
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch

from sfc.label_archive import LabelArchive
from sfc.localization.store import CamStore
from tests.forked import wait_for
from tests.stages import on_device
from tests.stages.on_device import ON_DEVICE, STAGES, TRAININGS, curve, nothing_kept, run

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
APART = 1e-3  # of fp32


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """All stages have run on the CPU."""
    folder = tmp_path_factory.mktemp("device") / "project"
    folder.mkdir()
    on_device.write_project(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for stage in STAGES:
            run(stage, device="reference", monkeypatch=patch)
        run("evaluate", "cam", device="reference", monkeypatch=patch)
        run("analyse", device="reference", monkeypatch=patch)
    return folder


@pytest.fixture
def here(project, tmp_path, monkeypatch):
    """A copy of it, in which a test is."""
    return on_device.copied(project, tmp_path / "copy", monkeypatch)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("stage", TRAININGS)
def test_losses_are_those_of_the_cpu(here, monkeypatch, stage, device):
    expected = curve(stage)
    run(stage, device=device, monkeypatch=monkeypatch)
    close(curve(stage), expected)


@pytest.mark.parametrize("device", DEVICES)
def test_cams_are_those_of_the_cpu(here, project, monkeypatch, device):
    run("infer_cam", device=device, monkeypatch=monkeypatch)
    expected, found = CamStore(project / "out/cams"), CamStore("out/cams")
    assert found.ids == expected.ids
    for id in expected.ids:
        for one, other in zip(found.read(id), expected.read(id), strict=True):
            np.testing.assert_allclose(one, other, atol=APART)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("stage", "archive"), [("pseudo_labels", "pseudo_labels"), ("predict", "predictions")])
def test_label_maps_are_those_of_the_cpu(here, project, monkeypatch, stage, archive, device):
    run(stage, device=device, monkeypatch=monkeypatch)
    expected, found = LabelArchive(project / f"out/{archive}.zip"), LabelArchive(f"out/{archive}.zip")
    assert found.ids == expected.ids
    same = [found.read(id) == expected.read(id) for id in expected.ids]
    assert np.mean([labels.mean() for labels in same]) > 0.999  # two classes may tie but for rounding


@pytest.mark.parametrize("device", DEVICES)
def test_what_classes_share_is_as_on_the_cpu(here, project, monkeypatch, device):
    run("analyse", device=device, monkeypatch=monkeypatch)
    for table in ("analyse_cosines", "analyse_rates"):
        rows = [list(csv.reader((root / f"plots/{table}.csv").open())) for root in (here, project)]
        assert len(rows[0]) == len(rows[1]) > 1
        for one, other in zip(*rows, strict=True):
            assert [same(*cells) for cells in zip(one, other, strict=True)] == [True] * len(one), (one, other)


@pytest.mark.parametrize("device", DEVICES)
def test_every_stage_releases_what_it_took(here, monkeypatch, device):
    for stage in (*ON_DEVICE, "analyse"):
        run(stage, device=device, monkeypatch=monkeypatch)  # what libraries keep for good, they keep after this
        with nothing_kept(device):
            run(stage, device=device, monkeypatch=monkeypatch)


@pytest.mark.parametrize("device", DEVICES)
def test_every_stage_runs_in_bf16(tmp_path, monkeypatch, device):
    sections = ("train_cam", "cam", "irn", "walk", "seg", "predict", "analyse")
    on_device.write_project(tmp_path, **{f"{section}.precision": "bf16" for section in sections})
    monkeypatch.chdir(tmp_path)
    for stage in STAGES:
        run(stage, device=device, monkeypatch=monkeypatch)
    for stage in TRAININGS:
        last = json.loads((tmp_path / f"metrics/{stage}.json").read_text())["last"]
        assert all(np.isfinite(value) for value in last.values())


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("stage", TRAININGS)
def test_a_training_goes_on_after_notice(here, forker, stage, device):
    expected = curve(stage)
    setting = {**on_device.QUIET, "SFC_DEVICE": device, "SFC_CHECKPOINT_SECONDS": "0"}
    process = forker.start(here, f"stages.{stage}", **setting)
    wait_for(lambda: process.poll() is not None or list(here.glob(f".scratch/{stage}/*/*.pt.sha256")))
    process.send_signal(signal.SIGTERM)
    if process.wait() != 0:  # it may have been through
        assert process.poll() == 128 + signal.SIGTERM, process.said()
        assert f"{stage}: stopped at step" in process.said()
        assert f"{stage}: goes on from step" in forker.run(here, f"stages.{stage}", **setting)
    close(curve(stage), expected)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_two_processes_train_as_one(tmp_path, monkeypatch, device):
    """By gloo on the CPU, by NCCL where there are two GPUs."""
    if device == "cuda" and torch.cuda.device_count() < 2:
        pytest.skip("torch sees one GPU here")
    frozen = {"arch": "resnet18", "weights": "none", "frozen_stages": 0, "batch_norm": "frozen"}
    on_device.write_project(tmp_path, **{"train_cam.backbone": frozen})
    monkeypatch.chdir(tmp_path)
    for stage in STAGES[:3]:
        run(stage, device=device, monkeypatch=monkeypatch)
    expected = curve("train_cam")
    if device == "cuda":
        monkeypatch.delenv("SFC_DEVICE")  # each process takes the GPU of its rank
    monkeypatch.setenv("PYTHONPATH", str(on_device.ROOT))
    launcher = ["torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command = [sys.executable, "-m", *launcher, "-m", "stages.train_cam"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    close(curve("train_cam"), expected)


def close(found, expected):
    """Both curves have the same rows, and values no further apart than rounding explains."""
    assert list(found.index) == list(expected.index)
    np.testing.assert_allclose(found, expected, atol=APART, rtol=APART)


def same(one, other):
    """Two cells of a table are the same text, or numbers no further apart than rounding explains."""
    try:
        return abs(float(one) - float(other)) <= APART * max(1, abs(float(other)))
    except ValueError:
        return one == other
