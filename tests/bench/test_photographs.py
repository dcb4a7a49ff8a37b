"""The sample is packed whole and unpacked by the script, and kept networks are those of a step."""

import csv
import hashlib
import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from safetensors.torch import load_file

from bench import kept_networks, pack_sample, photographs
from bench.kept_networks import network_path
from bench.preset_table import table
from sfc.errors import UserError
from sfc.params import load_params, parse_params, read_text, read_yaml
from stages._overlay import overlaid
from tests.pipeline import tiny
from tests.stages import on_device

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def sample(tmp_path):
    """A data set as `pack_sample` takes it, with what goes beside it."""
    root = tmp_path / "VOC2012"
    tiny.write_data(root)
    (root / "SegmentationClass").rename(root / "SegmentationClassAug")
    (root / "ImageSets/Segmentation/train.txt").rename(root / "ImageSets/Segmentation/train_aug.txt")
    (tmp_path / "weights").write_bytes(os.urandom(300_000))
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels/a-1.whl").write_bytes(b"wheel")
    return tmp_path


def pack(sample, *options):
    given = ["--labels", str(sample / "VOC2012/labels.csv"), "--weights", str(sample / "weights"), *options]
    return CliRunner().invoke(pack_sample.main, [str(sample / "VOC2012"), str(sample / "parts"), *given])


def test_the_parts_hold_everything_checked(sample, monkeypatch):
    monkeypatch.setattr(pack_sample, "MB", 100_000)
    done = pack(sample, "--part-mb", "1", "--wheels", str(sample / "wheels"))
    assert done.exit_code == 0, done.output
    parts = sorted((sample / "parts").glob("sample.tar.*"))
    assert len(parts) > 3
    assert max(part.stat().st_size for part in parts) == 100_000
    sums = dict(reversed(line.split()) for line in (sample / "parts/sample.sha256").read_text().splitlines())
    assert sums == {part.name: hashlib.sha256(part.read_bytes()).hexdigest() for part in parts}
    with tarfile.open(fileobj=io.BytesIO(b"".join(part.read_bytes() for part in parts))) as archive:
        found = {name: archive.extractfile(name).read() for name in archive.getnames()}
    listed = found.pop("files.sha256").decode().splitlines()
    assert {line.split("  ")[1]: line.split("  ")[0] for line in listed} == {
        name: hashlib.sha256(content).hexdigest() for name, content in found.items()
    }
    assert found["weights.safetensors"] == (sample / "weights").read_bytes()
    assert found["wheels/a-1.whl"] == b"wheel"
    rows = list(csv.DictReader(io.StringIO(found["labels.csv"].decode())))
    assert len(rows) == tiny.TRAIN + tiny.VAL
    for row in rows:
        mask = (sample / f"VOC2012/SegmentationClassAug/{row['image_id']}.png").read_bytes()
        assert found[f"VOC2012/SegmentationClassAug/{row['image_id']}.png"] == mask
        with Image.open(io.BytesIO(found[f"VOC2012/JPEGImages/{row['image_id']}.jpg"])) as image:
            assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (56, 48))
            before = np.asarray(Image.open(sample / f"VOC2012/JPEGImages/{row['image_id']}.jpg")).astype(int)
            assert np.abs(np.asarray(image) - before).mean() < 25


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda root: (root / "JPEGImages/t1.jpg").unlink(), "t1.jpg: no such file"),
        (lambda root: (root / "JPEGImages/t1.jpg").write_bytes(b"no"), "t1.jpg"),
        (lambda root: Image.new("P", (9, 9)).save(root / "SegmentationClassAug/t1.png"), "not of the size"),
        (lambda root: (root / "labels.csv").write_text("image_id,split,classes\nt0,train,bar\n"), "no row of image"),
    ],
)
def test_what_is_not_whole_is_not_packed(sample, spoil, said):
    spoil(sample / "VOC2012")
    done = pack(sample)
    assert done.exit_code == 1
    assert said in done.output
    assert len(done.output.splitlines()) == 1
    assert not (sample / "parts").exists()


def unpacked(sample, *, parts):
    """Run the script, with a program in place of Python that says what it was asked for."""
    program = sample / "python"
    program.write_text('#!/bin/sh\necho "$@"\n')
    program.chmod(0o755)
    environment = {"PATH": os.environ["PATH"], "PYTHON": str(program), "PARTS": str(parts)}
    environment |= {"WORK": str(sample / "work"), "OUT": str(sample / "out")}
    command = ["bash", str(ROOT / "bench/gpu_photographs.sh"), "--minutes", "3"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_parts_may_come_one_by_one_and_damaged_ones_are_refused(sample, monkeypatch):
    monkeypatch.setattr(pack_sample, "MB", 100_000)
    pack(sample, "--part-mb", "1", "--wheels", str(sample / "wheels"))
    parts = sorted((sample / "parts").glob("sample.tar.*"))
    whole = parts[1].read_bytes()
    parts[1].rename(sample / "later")
    first = unpacked(sample, parts=sample / "parts")
    assert (first.returncode, first.stderr) == (75, f"{parts[1].name} is missing: send it, and call again\n")
    parts[1].write_bytes(whole[:-1] + b"?")
    damaged = unpacked(sample, parts=sample / "parts")
    assert damaged.returncode == 1
    assert f"{parts[1].name}: FAILED" in damaged.stdout
    parts[1].write_bytes(whole)
    last = unpacked(sample, parts=sample / "parts")
    assert last.returncode == 0, last.stderr
    assert "-m pip install" in last.stdout.splitlines()[0]
    assert last.stdout.splitlines()[1].startswith("-m bench.photographs --sample")
    assert last.stdout.endswith("--minutes 3\n")
    assert len(list((sample / "work/sample/VOC2012/JPEGImages").iterdir())) == tiny.TRAIN + tiny.VAL
    assert not (sample / "work/parts").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "Error: Missing argument 'FOLDER'."),
        (["networks", "5", "x"], "Error: Invalid value for '[STEP]...': 'x' is not a valid integer range."),
        (["networks", "0"], "Error: Invalid value for '[STEP]...': 0 is not in the range x>=1."),
        (["/dev/null", "5"], "Error: /dev/null: cannot be a folder (a file lies there); remove it, or write elsewhere"),
        (["", "5"], "Error: folder: '' is no path; is a variable of the shell not set?"),
    ],
)
def test_networks_that_cannot_be_kept_are_one_line_before_the_training(tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(kept_networks.main, arguments)
    assert done.exit_code in (1, 2)
    assert done.output.splitlines()[-1] == said


def test_a_kept_network_is_that_of_its_step(tmp_path, monkeypatch):
    on_device.write_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    for stage in ("prepare", "label_stats"):
        on_device.run(stage, device="reference", monkeypatch=monkeypatch)
    command = [sys.executable, "-m", "bench.kept_networks", "networks", "5", "8", str(tiny.STEPS)]
    threads = str(torch.get_num_threads())  # as below: sums depend on it
    environment = os.environ | {"PYTHONPATH": str(ROOT), "SFC_DEVICE": "cpu", "OMP_NUM_THREADS": threads}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    kept = [load_file(network_path(Path("networks"), step)) for step in (5, 8)]
    assert not torch.equal(kept[0]["classifier.weight"], kept[1]["classifier.weight"])
    last = tmp_path / "out/cam.safetensors"
    assert network_path(Path("networks"), tiny.STEPS).read_bytes() == last.read_bytes()
    last.unlink()
    # the same schedule, stopped there: the state of a checkpoint at that step
    seen = []
    monkeypatch.setattr("sfc.training.checkpoint.Checkpoint.due", lambda self: True)
    monkeypatch.setattr(
        "sfc.training.checkpoint.Checkpoint.save", lambda self, state: seen.append(copied(state)) or True
    )
    on_device.run("train_cam", device="reference", monkeypatch=monkeypatch)
    for step, network in zip((5, 8), kept, strict=True):
        state = next(state for number, state in seen if number == step)
        assert all(torch.equal(value, network[name]) for name, value in state.items())


def copied(state):
    network = {name: value for name, value in state["objective"].items() if name.startswith("network.")}
    return state["step"], {name.removeprefix("network."): value.clone() for name, value in network.items()}


def test_params_are_those_of_the_paper_but_for_the_sample():
    values = photographs._params(photographs.Plan("base", 10, 12), Path("/sample"), ("train_cam.crop=64",))
    params = parse_params(values)
    assert params.get("dataset.root") == "/sample/VOC2012"
    assert (params.get("train_cam.method"), params.get("train_cam.epochs")) == ("base", 10)
    assert (params.get("train_cam.crop"), params.get("train_cam.random_seed")) == (64, 12)
    assert params.get("sfc") == load_params(ROOT / "presets/voc12.yaml").get("sfc")
    params = parse_params(photographs._params(photographs.Plan("sfc-structure", 10, 12), Path("/sample"), ()))
    assert params.get("train_cam.method") == "sfc"
    preset = overlaid(*(read_text(ROOT / f"presets/{name}.yaml") for name in ("voc12", "voc_sample")), source="preset")
    assert params.get("sfc") == parse_params(read_yaml(preset, source="preset")).get("sfc")
    with pytest.raises(UserError, match="there is no such param"):
        photographs._params(photographs.Plan("base", 10, 12), Path("/sample"), ("train_cam.corp=64",))


def test_the_table_has_interval_and_oracle():
    figures = {
        "miou": 41.04,
        "miou_low": 40.0,
        "miou_high": 42.0,
        "miou_few": 12.34,
        "oracle": {"threshold": 0.3, "miou": 50},
    }
    found = {"run": "base-10", "step": 930, "metrics": {"images": 250, "classifier": figures}}
    row = "| base-10 | 930 | classifier | 250 | 41.0 [40.0, 42.0] | 12.3 | 50.0 at 0.30 |"
    assert row in table([found]).splitlines()
