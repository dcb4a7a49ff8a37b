"""A tiny project whose stages run in this process, on any device, and what they leave of memory."""

import gc
import shutil
from contextlib import contextmanager, nullcontext
from importlib import import_module
from pathlib import Path

import pandas as pd
import torch
import yaml
from click.testing import CliRunner

from tests.pipeline import tiny

ROOT = Path(__file__).resolve().parents[2]
TRAININGS = ("train_cam", "train_irn", "train_seg")
ON_DEVICE = ("train_cam", "infer_cam", "train_irn", "pseudo_labels", "train_seg", "predict")
STAGES = ("prepare", "label_stats", "train_cam", "infer_cam", "crf", *ON_DEVICE[2:])
GENTLE = {"train_cam.lr": 1e-3}  # at the released rate a rounding error has grown to a tenth after ten steps
QUIET = {"SFC_WORKERS": "0", "SFC_LAUNCH": "", "OMP_NUM_THREADS": "1"}


def write_project(folder, **params):
    """Data, and params by dotted name beside those of `tiny`, in a folder."""
    tiny.write_data(folder / tiny.PARAMS["dataset.root"])
    values = yaml.safe_load((ROOT / "presets/voc12.yaml").read_text())
    for dotted, value in {**tiny.PARAMS, **GENTLE, **params}.items():
        *path, last = dotted.split(".")
        section = values
        for name in path:
            section = section[name]
        section[last] = value
    (folder / "params.yaml").write_text(yaml.safe_dump(values))


def run(stage, *arguments, device, monkeypatch):
    """Run a stage in the present folder and this process; returns what it said.

    Without mkldnn the CPU sums in another order, as another device does: it stands in for one where there is none.
    """
    for name, value in QUIET.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SFC_DEVICE", "cpu" if device in ("cpu", "reference") else device)
    with torch.backends.mkldnn.flags(enabled=False) if device == "cpu" else nullcontext():
        done = CliRunner().invoke(import_module(f"stages.{stage}").main, arguments)
    assert done.exit_code == 0, done.output
    return done.output


def copied(project, folder, monkeypatch):
    """A copy of a project, and into it."""
    shutil.copytree(project, folder)
    monkeypatch.chdir(folder)
    return folder


def curve(stage):
    """Step and name to value, of the training that ran last."""
    return pd.read_csv(f"plots/{stage}.csv").set_index(["step", "loss"])["value"]


def held(device):
    """Bytes that tensors of this process have on a device."""
    gc.collect()
    if device == "cuda":
        return torch.cuda.memory_allocated()
    tensors = [found for found in gc.get_objects() if type(found) in (torch.Tensor, torch.nn.Parameter)]
    storages = [tensor.untyped_storage() for tensor in tensors if tensor.layout == torch.strided]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


@contextmanager
def nothing_kept(device):
    """Fail if more of the device's memory is taken after the block than before."""
    before = held(device)
    yield
    after = held(device)
    assert after <= before, f"{after - before:,} bytes are not released"
