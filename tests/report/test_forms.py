"""What is no index of examples is refused, figure by figure."""

import copy

import pytest

from sfc.errors import UserError
from sfc.report.forms import check_index

PICTURE = {"kind": "labels", "map": "labels", "label": None, "file": "one/labels.png"}
EXAMPLE = {"id": "one", "fixed": True, "iou": 50.0, "rank": 1, "of_class": {"0": 90.0, "1": None}, "shows": [1]}
INDEX = {
    "meaning": "what it is",
    "split": "train",
    "main": "labels",
    "images": 3,
    "labels": [{"name": "background", "colour": "#000000"}],
    "scale": ["#000000"],
    "ious": [0.0, 50.0, 100.0],
    "examples": [{**EXAMPLE, "extra": [], "pictures": [PICTURE]}],
}
PERCENTS = (("examples", 0, "iou"), ("examples", 0, "of_class", "0"), ("ious", 2))


def changed(place, value):
    index = copy.deepcopy(INDEX)
    inside = index
    for key in place[:-1]:
        inside = inside[key]
    inside[place[-1]] = value
    return index


@pytest.mark.parametrize("value", [0, 0.0, 33, 100.0])
@pytest.mark.parametrize("place", PERCENTS)
def test_percents(place, value):
    check_index(changed(place, value), "a.zip")


@pytest.mark.parametrize("value", [-0.1, 100.1, float("nan"), float("inf"), "50", True, [50.0], {}])
@pytest.mark.parametrize("place", PERCENTS)
def test_what_is_no_percent(place, value):
    where = r"\.".join(map(str, place))
    with pytest.raises(UserError, match=rf"^a.zip: not what its stage writes \({where}: .*\); run the stage again$"):
        check_index(changed(place, value), "a.zip")
