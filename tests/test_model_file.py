"""Models on file: what they know, and that what is damaged, older, or of another task is one line."""

import contextlib
import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from sfc.backbone import Trunk
from sfc.errors import UserError
from sfc.model_file import CAM, IRN, SEGMENTATION, ModelFacts, load_model, read_facts, save_model


class Tiny(nn.Module):
    def __init__(self, inputs):
        super().__init__()
        self.head = nn.Linear(inputs, 2)
        self.backbone = Trunk()


FACTS = ModelFacts(
    task=CAM,
    network={"inputs": 3},
    classes=("cat", "dog"),
    palette=((0, 0, 0), (128, 0, 0), (0, 128, 0)),
    mean=(0.5, 0.25, 0.125),
    std=(1 / 3, 0.2, 0.1),
    image_scale=0.5,
    params={"train_cam": {"lr": 0.1, "long_side": [1, 2]}},
)


def load(path):
    return load_model(path, lambda network: Tiny(network["inputs"]), "cpu", task=CAM)


@pytest.fixture
def path(tmp_path):
    save_model(Tiny(3), tmp_path / "m.safetensors", FACTS)
    return tmp_path / "m.safetensors"


def rewrite(path, metadata):
    save_file(load_file(path), path, metadata=metadata)


def changed(**values):
    return {"sfc": json.dumps(json.loads(FACTS.to_json()) | values)}


def refused(path, message="not what the stage train_cam of this version writes; run it again"):
    for read in (load, lambda path: read_facts(path, task=CAM)):
        with pytest.raises(UserError) as error:
            read(path)
        assert str(error.value) == f"{path}: {message}"


def test_facts_come_back(path):
    assert read_facts(path, task=CAM) == FACTS
    trunk = load(path).backbone
    assert (trunk.mean, trunk.std) == (FACTS.mean, FACTS.std)  # the model is given what it was trained with


@pytest.mark.parametrize(
    "metadata",
    [
        None,
        {"format": "pt"},
        {"sfc": "{"},
        {"sfc": ""},
        {"sfc": "[3]"},
        {"sfc": "null"},
        {"sfc": "{}"},
        changed(mean=None),
        changed(palette=[[0, 0]]),
        changed(palette=[[0, 0, 0]]),
        changed(palette=[["red"]]),
        changed(extra=1),
        {"sfc": "[" * 100_000},
        changed(mean=["a", "b", "c"]),
        changed(mean=[0.5]),
        changed(mean=[float("nan")] * 3),
        changed(std=[0, 0, 0]),
        changed(image_scale="1"),
        changed(image_scale=-1),
        changed(image_scale=1e9),
        changed(classes=[1, 2]),
        changed(classes=["cat", "a\0b"]),
        changed(classes=["cat", ["dog"]]),
        changed(palette=[[300, 0, 0]] * 3),
        changed(palette=[[0, 0]] * 3),
        changed(params=3),
        changed(version=None),
    ],
)
def test_metadata_that_are_none(path, metadata):
    rewrite(path, metadata)
    refused(path)


@pytest.mark.parametrize("network", [{}, {"inputs": "3"}, {"inputs": -1}, {"inputs": {}}, {"inputs": 4}, [], None, 3])
def test_a_network_that_cannot_be_built(path, network):
    rewrite(path, changed(network=network))
    with pytest.raises(UserError, match="not what the stage train_cam of this version writes; run it again"):
        load(path)


def test_an_older_form_is_one_line(path):
    rewrite(path, {"config": '{"inputs": 3}'})
    refused(path, "written before model files knew their classes and normalisation; run the stage train_cam again")


def test_a_newer_form_names_its_version(path):
    rewrite(path, changed(form=3, version="7.1"))
    wanted = "written by version 7.1 of this project in another form than version"
    with pytest.raises(UserError, match=wanted):
        load(path)


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (SEGMENTATION, "holds a CAM network, and this needs a segmentation model, as the stage train_seg writes it"),
        (IRN, "holds a CAM network, and this needs a network of IRN, as the stage train_irn writes it"),
    ],
)
def test_a_file_of_another_task_is_one_line(path, task, message):
    with pytest.raises(UserError) as error:
        load_model(path, lambda network: Tiny(**network), "cpu", task=task)
    assert str(error.value) == f"{path}: {message}"


def test_other_files_and_folders(path, tmp_path):
    refused(tmp_path)
    path.write_bytes(b"")
    refused(path)
    with pytest.raises(UserError, match=r"none: no such file; run the stage train_cam first"):
        load(tmp_path / "none")


def test_other_classes_are_named(path):
    facts = read_facts(path, task=CAM)
    facts.check_classes(("cat", "dog"), path)
    for classes in (("dog", "cat"), ("cat",), ("cat", "dog", "cow", "a", "b")):
        with pytest.raises(UserError, match=r"tells apart 2 classes \(cat, dog\), out/classes.json has"):
            facts.check_classes(classes, path)


def test_what_hinders_building_is_told_as_it_is(path):
    def build(network):
        raise UserError("timm is not installed")

    with pytest.raises(UserError, match=r"^timm is not installed$"):
        load_model(path, build, "cpu", task=CAM)


def test_every_flipped_bit_of_the_header_is_refused_or_harmless(path):
    whole = path.read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    assert json.loads(whole[8:header])["__metadata__"] == {"sfc": FACTS.to_json()}
    for place in range(header * 8):
        damaged = bytearray(whole)
        damaged[place // 8] ^= 1 << place % 8
        path.write_bytes(damaged)
        with contextlib.suppress(UserError):
            assert load(path).head.weight.dtype == torch.float32
