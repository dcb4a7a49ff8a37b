"""What `segment` refuses: one line, and nothing is written."""

import os
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from stages import segment
from tests.stages.deployment.runs import run


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["nowhere.jpg"], "nowhere.jpg: no such file or folder"),
        (["im0.png", "--model", "none.safetensors"], "none.safetensors: no such file; run the stage train_seg first"),
        (["im0.png", "--model", "old.safetensors"], "old.safetensors: written before model files knew their classes"),
        (["im0.png", "--cam"], "--cam: CAMs are made of classes that are known; name them by --labels"),
        (
            ["im0.png", "--cam", "--labels", "cat", "--model", "out/seg.safetensors"],
            "out/seg.safetensors: holds a segmentation model, and this needs a CAM network, as the stage train_cam",
        ),
        (["im0.png", "--model", "a.pt2"], "a.pt2: models that run here are .safetensors and .onnx"),
        (["im0.png", "--model", "a.onnx", "--flip"], "a.onnx: scales and flip are part of an exported model"),
        (["im0.png", "--model", "a.onnx"], "a.onnx: no such file; write it by python -m stages.export"),
        ([""], "SOURCE: '' names nothing; is a variable of the shell not set?"),
        (["im0.png", "--labels", "cow"], "--labels: 'cow' is neither a file nor a class; the model knows cat, dog"),
    ],
)
def test_what_is_wrong_is_one_line_and_nothing_is_written(project, options, message):
    save_file(load_file("out/seg.safetensors"), "old.safetensors", metadata={"config": "{}"})
    printed = run(segment, *options, "--out", "o", status=1).splitlines()
    assert printed[-1].startswith(f"Error: {message}")
    assert not Path("o").exists()


@pytest.mark.parametrize("scales", ["1,x", "0", "1,1", ""])
def test_scales_are_numbers(project, scales):
    assert "Invalid value for '--scales'" in run(segment, "im0.png", "--out", "o", "--scales", scales, status=2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["gone.png", "--out", "o"], "gone.png: no such file or folder"),
        (["im0.png", "--out", "o", "--labels", "missing.txt"], "--labels: 'missing.txt' is neither a file nor a class"),
        (["im0.png", "--out", "o", "--labels", "im0.png"], "im0.png: not a CSV file in UTF-8"),
        (["im0.png", "--out", "im1.png"], "im1.png: cannot be a folder (a file lies there); remove it, or"),
        (["im0.png", "--out", "im1.png/o"], "im1.png/o: cannot be written (im1.png is no folder); remove that, or"),
        (["im0.png", "--out", "table"], "table/segments.csv: cannot be written (a folder lies there); remove it, or"),
        (["im0.png", "--out", "file"], "file/labels: cannot be a folder (a file lies there); remove it, or"),
        (["im0.png", "--out", "mine"], "mine/labels: holds files, and no segments.csv says that they are results"),
        (["im0.png", "--out", "closed"], "closed: cannot be written (Permission denied); give yourself the right"),
        (["im0.png", "--out", "closed/new"], "closed/new: cannot be written (Permission denied); give yourself"),
    ],
)
def test_what_is_wrong_is_found_before_the_model_is_loaded(project, monkeypatch, options, message):
    monkeypatch.setattr(segment, "load_segmenter", None)
    for folder in ("table/segments.csv", "file", "mine/labels", "closed"):
        Path(folder).mkdir(parents=True)
    for file in ("file/labels", "mine/labels/im0.png"):
        Path(file).write_text("mine")
    access = os.access  # root may write everywhere
    monkeypatch.setattr(os, "access", lambda path, mode: "closed" not in str(path) and access(path, mode))
    before = sorted(path for path in Path().rglob("*"))
    (line,) = run(segment, *options, status=1).splitlines()
    assert line.startswith(f"Error: {message}")
    assert sorted(path for path in Path().rglob("*")) == before
