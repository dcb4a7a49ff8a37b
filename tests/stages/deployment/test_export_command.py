"""The command export: the model's labels and weights, and what it refuses."""

import logging
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from sfc.backbone import fold_batch_norm
from sfc.segmentation.models import load_segmenter
from stages import export, segment
from tests.stages.deployment.runs import NAMES, label, run, table, values
from tests.stages.predict_project import write_model


def test_an_exported_model_gives_the_same_labels(project):
    logging.disable(logging.DEBUG)  # see tests/deployment/test_export.py
    try:
        printed = run(export, "--scales", "1", "--no-flip").splitlines()
    finally:
        logging.disable(logging.NOTSET)
    assert printed[-1].startswith("export: out/seg.onnx, 45 MB")
    options = ["--labels", "cat"]
    for more in ([], options, ["--crf", *options]):
        run(segment, "im*.png", "--out", "torch", "--scales", "1", "--no-flip", *more)
        run(segment, "im*.png", "--out", "onnx", "--model", "out/seg.onnx", *more)
        of = {name: [values(label(name, folder)) for folder in ("torch", "onnx")] for name in NAMES}
        assert min(np.mean(ours == theirs) for ours, theirs in of.values()) >= 0.999
        assert len(np.unique(np.concatenate([ours.ravel() for ours, _ in of.values()]))) == (2 if more else 3)
        assert list(table("onnx")) == NAMES


def test_a_pt2_has_the_weights_of_the_model(project):
    logging.disable(logging.DEBUG)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            run(export, "--format", "pt2", "--scales", "1", "--no-flip")
    finally:
        logging.disable(logging.NOTSET)
    network = load_segmenter("out/seg.safetensors", "cpu")
    fold_batch_norm(network.backbone)
    found = torch.export.load("out/seg.pt2").state_dict
    wanted = {f"network.{name}": weight for name, weight in network.state_dict().items()}
    assert len(found) > 20
    assert found.keys() <= wanted.keys()
    for name, weight in found.items():
        assert torch.equal(weight, wanted[name])


def test_a_disk_that_takes_no_pt2_is_said_so(project):
    """In a process of its own, which torch's writer might end."""
    code = "from tests.limits import largest_file; from stages.export import main\nwith largest_file(10**6): main()"
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[3])}
    command = [sys.executable, "-c", code, "--format", "pt2", "--scales", "1", "--no-flip"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=300)
    said = "out/seg.pt2: cannot be written (File too large); raise the limit on a file's size (ulimit -f)"
    assert done.stderr.splitlines()[1:] == [f"Error: {said}"]
    assert done.returncode == 1
    assert [path.name for path in Path("out").iterdir() if "pt2" in path.name] == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--to", "out/seg.safetensors"), "--to out/seg.safetensors: format onnx is called .onnx; name it so"),
        (("--to", "x.pt2"), "--to x.pt2: format onnx is called .onnx; name it so, or another --format"),
        (("--model", "alike", "--to", "./alike"), "--to alike: format onnx is called .onnx; name it so"),
        (("--to", "params.yaml"), "--to params.yaml: format onnx is called .onnx; name it so"),
        (("--model", "."), "Error: .: "),
    ],
)
def test_export_writes_over_no_model_and_under_no_wrong_name(project, options, said):
    model = Path("out/seg.safetensors").read_bytes()
    Path("alike").write_bytes(model)
    printed = run(export, *options, "--scales", "1", "--no-flip", status=1)
    assert printed.splitlines()[-1].startswith("Error: ")
    assert said in printed
    assert Path("out/seg.safetensors").read_bytes() == Path("alike").read_bytes() == model
    assert not Path("x.pt2").exists()


def test_export_refuses_what_is_no_segmentation_model(project):
    assert "none: no such file; run the stage train_seg" in run(export, "--model", "none", status=1)
    write_model("cat")
    assert "Invalid value for '--format'" in run(export, "--format", "tflite", status=2)
