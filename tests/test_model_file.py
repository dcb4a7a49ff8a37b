"""Models on file: what is damaged, or no file of a model, is one line."""

import contextlib
import json

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from sfc.errors import UserError
from sfc.model_file import load_model, save_model


def load(path):
    return load_model(path, lambda config: nn.Linear(config["inputs"], 2), "cpu", stage="train_x")


@pytest.fixture
def path(tmp_path):
    save_model(nn.Linear(3, 2), tmp_path / "m.safetensors", config={"inputs": 3})
    return tmp_path / "m.safetensors"


def refused(path):
    with pytest.raises(UserError) as error:
        load(path)
    assert str(error.value) == f"{path}: not what the stage train_x of this version writes; run it again"


@pytest.mark.parametrize(
    "config", ["{", "", "[3]", "3", "null", '{"inputs": "3"}', '{"inputs": -1}', '{"inputs": {}}', "{}"]
)
def test_a_config_that_builds_no_model(path, config):
    save_file(nn.Linear(3, 2).state_dict(), path, metadata={"config": config})
    refused(path)


def test_other_files_and_folders(path, tmp_path):
    refused(tmp_path)
    path.write_bytes(b"")
    refused(path)
    with pytest.raises(UserError, match=r"none: no such file; run the stage train_x first"):
        load(tmp_path / "none")


def test_what_hinders_building_is_told_as_it_is(path):
    def build(config):
        raise UserError("timm is not installed")

    with pytest.raises(UserError, match=r"^timm is not installed$"):
        load_model(path, build, "cpu", stage="train_x")


def test_every_flipped_bit_of_the_header_is_refused_or_harmless(path):
    whole = path.read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    assert json.loads(whole[8:header])["__metadata__"] == {"config": '{"inputs": 3}'}
    for place in range(header * 8):
        damaged = bytearray(whole)
        damaged[place // 8] ^= 1 << place % 8
        path.write_bytes(damaged)
        with contextlib.suppress(UserError):
            assert load(path).weight.dtype == torch.float32
