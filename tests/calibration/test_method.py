"""A method whose parts cannot belong together is refused when it is made, not after its training."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sfc.calibration.method import registry
from sfc.calibration.objective import total
from sfc.config_types import Section
from sfc.errors import UserError
from sfc.methods import METHODS
from sfc.methods.base import BaseNetwork

ROOT = Path(__file__).resolve().parents[2]


class Stray(BaseNetwork):
    fused = ("prototype",)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"losses": "cls"}, "losses is 'cls'; give a tuple"),
        ({"losses": ("loss",)}, "none of them loss"),
        ({"measures": "share"}, "measures is 'share'"),
        ({"network": Stray}, "are not among kinds"),
    ],
)
def test_parts_that_do_not_fit(change, message):
    with pytest.raises(UserError, match=message):
        replace(METHODS["base"], **change)


class Other(Section):
    weight: float


BASE = METHODS["base"]


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (replace(BASE, name="base"), "method base: there are two of this name; rename one of them"),
        (
            replace(BASE, name="mine", sections={"base": Other}),
            "method mine: its section base is one of method base",
        ),
        (
            replace(BASE, name="mine", sections={"walk": Other}),
            "method mine: its section walk is one of params.yaml",
        ),
        (
            replace(BASE, name="mine", sections={"fusion": Other}),
            "method mine: its section fusion is one of params.yam",
        ),
    ],
)
def test_two_of_one_name(method, message):
    with pytest.raises(UserError, match=message):
        registry(BASE, method)


def test_methods_may_share_a_section():
    other = replace(BASE, name="mine")
    assert registry(BASE, other) == {"base": BASE, "mine": other}


def test_a_fault_of_a_method_is_one_line_though_it_shows_at_its_import(tmp_path):
    script = tmp_path / "broken.py"
    script.write_text("import stages\nfrom sfc.errors import UserError\nraise UserError('method x: no')\n")
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    for debug in ("", "1"):
        done = subprocess.run(
            [sys.executable, script], env=env | {"SFC_DEBUG": debug}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 1
        assert (done.stderr == "Error: method x: no\n") == (not debug)


def test_no_part_of_an_objective_takes_the_name_of_the_sum():
    with pytest.raises(ValueError, match="the name of their sum"):
        total({"cls": torch.ones(2), "loss": torch.ones(2)})
