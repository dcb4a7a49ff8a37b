"""A training says where bf16 takes longer than fp32, and changes nothing."""

from types import SimpleNamespace

import pytest
import torch
from click.testing import CliRunner

from stages import _precision, predict, train_cam, train_irn, train_seg
from stages._precision import bf16_ratio, slow_bf16

CPU = torch.device("cpu")
PARAMS = {"train_cam": SimpleNamespace(precision="bf16"), "sections": {}}


@pytest.fixture
def ratio(monkeypatch):
    found = SimpleNamespace(value=2.0)
    monkeypatch.setattr(_precision, "bf16_ratio", lambda: found.value)
    return found


def test_one_line_with_the_param(ratio):
    note = slow_bf16(PARAMS, CPU)
    assert "2.0 times as long" in note
    assert "train_cam.precision: fp32" in note
    assert "\n" not in note


@pytest.mark.parametrize("value", [0.3, 1.0, 1.05])
def test_nothing_where_it_is_no_slower(ratio, value):
    ratio.value = value
    assert slow_bf16(PARAMS, CPU) is None


def test_nothing_of_fp32_or_on_a_gpu(ratio):
    assert slow_bf16({"train_cam": SimpleNamespace(precision="fp32")}, CPU) is None
    assert slow_bf16(PARAMS, torch.device("cuda")) is None


def test_measuring_takes_no_random_number_and_leaves_the_threads():
    state, threads = torch.random.get_rng_state(), torch.get_num_threads()
    assert bf16_ratio() > 0
    assert torch.get_num_threads() == threads
    assert torch.equal(state, torch.random.get_rng_state())


def test_trainings_alone_say_it_before_they_start(ratio, monkeypatch, tmp_path, pytestconfig):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SFC_DEVICE", "cpu")
    (tmp_path / "params.yaml").write_text((pytestconfig.rootpath / "presets/voc12.yaml").read_text())
    trainings = (train_cam.main, train_irn.main, train_seg.main)
    for command in (*trainings, predict.main):
        done = CliRunner().invoke(command, [])
        assert "no such file" in done.output  # an empty folder
        assert ("2.0 times as long as fp32" in done.output) == (command in trainings)
