"""A method whose parts cannot belong together is refused when it is made, not after its training."""

from dataclasses import replace

import pytest
import torch

from sfc.calibration.objective import total
from sfc.errors import UserError
from sfc.methods import METHODS
from sfc.methods.base import BaseNetwork


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


def test_no_part_of_an_objective_takes_the_name_of_the_sum():
    with pytest.raises(ValueError, match="the name of their sum"):
        total({"cls": torch.ones(2), "loss": torch.ones(2)})
