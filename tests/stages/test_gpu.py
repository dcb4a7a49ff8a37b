"""Which GPU a process takes: one to itself where DVC's workers run experiments side by side."""

import os
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from stages import _gpu
from stages._stage import device

ROOT = Path(__file__).resolve().parents[2]
chosen = []  # by torch.cuda.set_device
HOLD = """
import pathlib, sys
from stages._gpu import lease
print(lease(sys.argv[2:], pathlib.Path(sys.argv[1])), flush=True)
"""


@pytest.fixture
def holder(tmp_path):
    """Start processes that take a GPU of two and hold it until they are killed."""
    started = []

    def start():
        command = [sys.executable, "-c", HOLD + "import os; os.fork(); input()", str(tmp_path), "0", "1"]
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen(command, env=env, **pipes))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_two_processes_take_two_gpus_and_a_third_waits_until_one_is_killed(holder):
    first, second = holder(), holder()
    assert {first.stdout.readline(), second.stdout.readline()} == {"0\n", "1\n"}
    third = holder()
    assert "all 2 GPUs are taken by other experiments: waiting" in third.stderr.readline()
    assert select.select([third.stdout], [], [], 1.5)[0] == []
    first.kill()  # what it has forked lives on, as workers that decode images may, and does not keep the GPU
    first.wait()
    begun = time.monotonic()
    assert third.stdout.readline() in ("0\n", "1\n")
    assert time.monotonic() - begun < 10


@pytest.fixture
def experiment(tmp_path, monkeypatch):
    """An experiment's copy of a project, on a machine with two GPUs the first of which another experiment has."""
    chosen.clear()
    copy = tmp_path / ".dvc" / "tmp" / "exps" / "one"
    copy.mkdir(parents=True)
    monkeypatch.chdir(copy)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    for name in ("SFC_DEVICE", "CUDA_VISIBLE_DEVICES", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    _gpu.gpu_index.cache_clear()
    command = [sys.executable, "-c", HOLD + "input()", str(tmp_path / ".scratch"), "0"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    other = subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert other.stdout.readline() == "0\n"
    yield monkeypatch
    other.communicate("\n")
    _gpu.gpu_index.cache_clear()
    while _gpu._held:
        _gpu._held.pop().close()


def test_an_experiment_takes_a_free_gpu_and_keeps_it(experiment):
    assert device() == torch.device("cuda:1")
    assert device() == torch.device("cuda:1")
    assert chosen == [1]


def test_gpus_are_known_by_their_names_on_the_machine(experiment):
    experiment.setenv("CUDA_VISIBLE_DEVICES", "2,0")
    assert device() == torch.device("cuda:0")  # GPU 2


@pytest.mark.parametrize(
    ("setting", "value", "wanted"),
    [("CUDA_VISIBLE_DEVICES", "0", "cuda:0"), ("LOCAL_RANK", "1", "cuda:1"), ("SFC_DEVICE", "cpu", "cpu")],
)
def test_who_was_given_a_device_does_not_ask(experiment, setting, value, wanted):
    experiment.setenv(setting, value)
    assert device() == torch.device(wanted)
    assert _gpu._held == []


def test_outside_of_an_experiments_copy_nobody_asks(experiment):
    experiment.setenv("DVC_ROOT", str(Path.cwd()))
    assert device() == torch.device("cuda:0")
    assert _gpu._held == []


def test_without_a_gpu_nobody_asks(experiment):
    experiment.setattr(torch.cuda, "is_available", lambda: False)
    assert device() == torch.device("cpu")
    assert _gpu._held == []
