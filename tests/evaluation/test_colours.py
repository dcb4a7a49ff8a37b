"""Colours that can be told apart, against plain loops over pairs."""

import json
from itertools import combinations

import numpy as np
import pytest

from sfc.data.images import IGNORE, voc_palette
from sfc.evaluation.colours import class_colours, oklab
from sfc.evaluation.drawing import label_colours

APART = ((0, 0, 0), (255, 255, 255))


def closest(colours):
    places = oklab(np.asarray(colours))
    return min(float(np.linalg.norm(one - other)) for one, other in combinations(places, 2))


@pytest.mark.parametrize(
    ("rgb", "lab"),
    [  # as the author of OKLab lists them
        ((255, 255, 255), (1, 0, 0)),
        ((0, 0, 0), (0, 0, 0)),
        ((255, 0, 0), (0.628, 0.225, 0.126)),
        ((0, 255, 0), (0.866, -0.234, 0.179)),
        ((0, 0, 255), (0.452, -0.032, -0.312)),
    ],
)
def test_known_colours(rgb, lab):
    assert oklab(np.array([rgb]))[0] == pytest.approx(lab, abs=2e-3)


def test_each_is_the_farthest_from_all_before_it():
    found = class_colours(12, APART)
    np.testing.assert_array_equal(found[:5], class_colours(5, APART))
    taken = [*APART, *map(tuple, found[:7].tolist())]
    gap = min(float(np.linalg.norm(oklab(found[7:8])[0] - place)) for place in oklab(np.array(taken)))
    for level in (0, 68, 136, 204):
        for other in ((level, 136, 68), (136, level, 204), (204, 68, level)):
            place = oklab(np.array([other]))[0]
            if 0.45 <= place[0] <= 0.8 and np.hypot(*place[1:]) <= 0.22:
                assert min(float(np.linalg.norm(place - at)) for at in oklab(np.array(taken))) <= gap + 1e-6


@pytest.mark.parametrize(("classes", "least"), [(8, 0.19), (20, 0.12), (80, 0.065)])
def test_pictures_have_colours_that_can_be_told_apart(classes, least):
    """Of the demo's 8 classes, car and bicycle were 0.085 apart, of VOC's 20 some 0.04."""
    colours = label_colours()[[*range(classes + 1), IGNORE]]
    assert closest(colours) >= least
    assert closest(voc_palette()[1 : classes + 1]) < least
    assert len(np.unique(label_colours(), axis=0)) == 256


def test_curves_of_classes_have_the_colours_of_the_pictures(pytestconfig):
    chart = json.loads((pytestconfig.rootpath / ".dvc/plots/class_curves.json").read_text())
    found = chart["spec"]["encoding"]["color"]["scale"]["range"]
    assert found == ["#" + bytes(colour).hex() for colour in label_colours()[1 : 1 + len(found)]]
    assert len(found) == 80
