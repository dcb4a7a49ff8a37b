"""A stage says where bf16 takes longer than fp32, and changes nothing."""

import os
import platform
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from click.testing import CliRunner

from stages import _precision, analyse, crf, infer_cam, predict, pseudo_labels, train_cam, train_irn, train_seg
from stages._precision import bf16_ratio, slow_bf16


def cpu():
    return torch.device("cpu")


ROOT = Path(__file__).resolve().parents[2]
PARAMS = {"train_cam": SimpleNamespace(precision="bf16"), "sections": {}}


@pytest.fixture
def ratio(monkeypatch):
    found = SimpleNamespace(value=1.0)
    monkeypatch.setattr(_precision, "bf16_ratio", lambda gradients: found.value + gradients)
    return found


def test_one_line_with_the_param(ratio):
    note = slow_bf16("train_cam", PARAMS, cpu)
    assert "about 2.0 times as long" in note
    assert "train_cam.precision: fp32" in note
    assert "\n" not in note


@pytest.mark.parametrize("value", [-0.7, 0.0, 0.05])
def test_nothing_where_it_is_no_slower(ratio, value):
    ratio.value = value
    assert slow_bf16("train_cam", PARAMS, cpu) is None


def test_nothing_of_fp32_or_on_a_gpu(ratio):
    assert slow_bf16("train_cam", {"train_cam": SimpleNamespace(precision="fp32")}, None) is None
    assert slow_bf16("train_cam", PARAMS, lambda: torch.device("cuda")) is None


@pytest.mark.parametrize(("refine", "param"), [("irn", "walk.precision"), ("crf", None)])
def test_pseudo_labels_have_a_network_with_irn_alone(ratio, refine, param):
    ratio.value = 2.0
    sections = {"pseudo_labels": SimpleNamespace(refine=refine), "walk": SimpleNamespace(precision="bf16")}
    note = slow_bf16("pseudo_labels", sections, cpu)
    assert (param in note) if param else note is None


@pytest.mark.parametrize("gradients", [False, True])
def test_measuring_takes_no_random_number_and_leaves_the_threads(gradients):
    state, threads = torch.random.get_rng_state(), torch.get_num_threads()
    assert bf16_ratio(gradients=gradients) > 0
    assert torch.get_num_threads() == threads
    assert torch.equal(state, torch.random.get_rng_state())


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="AVX2 is of x86")
def test_without_units_for_it_it_is_slower_by_the_gradients_most():
    """As on a processor with AVX2 alone, which oneDNN is told to take this one for; in a process of its own."""
    code = "from stages._precision import bf16_ratio as r; print(r(gradients=False), r(gradients=True))"
    env = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    inference, training = map(float, done.stdout.split())
    assert 1.1 < inference < training


def test_stages_that_are_a_networks_say_it_before_they_start(ratio, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SFC_DEVICE", "cpu")
    (tmp_path / "params.yaml").write_text((ROOT / "presets/voc12.yaml").read_text())
    ratio.value = 2.0
    trainings, others = (train_cam, train_irn, train_seg), (infer_cam, predict, analyse)
    times = dict.fromkeys(trainings, "3.0") | dict.fromkeys(others, "2.0")
    for stage in (*times, pseudo_labels, crf):  # by the params as they stand pseudo_labels may have no network
        done = CliRunner().invoke(stage.main, [])
        assert "no such file" in done.output  # an empty folder
        assert (f"about {times.get(stage)} times as long as fp32" in done.output) == (stage in times)
