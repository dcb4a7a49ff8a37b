"""The demo's trunk: what it is trained on, that it learns, and that its file is one for `backbone.weights`."""

import numpy as np
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

from sfc.backbone import build_trunk, load_backbone_weights
from sfc.demo import trunk
from sfc.demo.trunk import draw_example, half, pretrained

SMALL = {"classes": 2, "size": 32, "seed": 3}


def plain(items, *, total, label):
    return items


def test_examples_of_a_class_are_alike_and_those_of_classes_differ():
    drawn = [draw_example(number, **SMALL | {"classes": 3}) for number in range(60)]
    assert {kind for _, kind in drawn} == {0, 1, 2}
    assert all(image.shape == (32, 32, 3) and image.dtype == np.uint8 for image, _ in drawn)
    again, kind = draw_example(7, **SMALL | {"classes": 3})
    assert np.array_equal(again, drawn[7][0])
    assert kind == drawn[7][1]
    assert not np.array_equal(draw_example(7, **SMALL | {"classes": 3, "seed": 4})[0], again)


def test_it_learns_and_the_same_seed_gives_the_same_trunk():
    runs = [pretrained(images=128, epochs=8, **SMALL, workers=0, progress=plain) for _ in range(2)]
    assert runs[0][1] > 0.9
    assert all(torch.equal(value, runs[1][0][name]) for name, value in runs[0][0].items())
    assert half(runs[0][0])["conv1.weight"].dtype == torch.float16
    assert half(runs[0][0])["bn1.running_var"].dtype == torch.float32


def test_a_place_that_takes_no_file_is_told_before_the_training(tmp_path, monkeypatch):
    monkeypatch.setattr(trunk, "pretrained", None)
    monkeypatch.setattr(trunk, "keep_freed_memory", lambda: None)
    (tmp_path / "file").touch()
    (tmp_path / "folder.safetensors").mkdir()
    for path in ("file/x.safetensors", "/proc/x.safetensors"):
        done = CliRunner().invoke(trunk.main, [str(tmp_path / path)])
        assert done.exit_code == 1
        assert done.output.startswith("Error: ")
        assert done.output.endswith("; name a file that can be written\n")
    assert CliRunner().invoke(trunk.main, [str(tmp_path / "folder.safetensors")]).exit_code == 2


def test_the_file_fills_a_trunk(tmp_path, monkeypatch):
    monkeypatch.setattr(trunk, "keep_freed_memory", lambda: None)  # it would last beyond the test
    monkeypatch.setattr(trunk.os, "sched_getaffinity", lambda _: {0}, raising=False)
    path = tmp_path / "new" / "trunk.safetensors"
    arguments = [str(path), "--classes", "2", "--images", "64", "--epochs", "1", "--size", "32"]
    done = CliRunner().invoke(trunk.main, arguments)
    assert done.exit_code == 0, done.output
    net = build_trunk("resnet18_half", output_stride=16, frozen_stages=3, batch_norm="frozen")
    load_backbone_weights(net, str(path))
    assert torch.equal(net.conv1.weight, load_file(path)["conv1.weight"].float())
