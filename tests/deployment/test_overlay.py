"""Pictures of results: colours where classes are, names inside the picture, any size."""

import numpy as np
import pytest
from PIL import ImageDraw

from sfc.data.images import class_palette
from sfc.deployment.overlay import heat_overlay, label_overlay

CLASSES = ("cat", "a_class_with_a_very_long_name_that_fits_no_picture")
PALETTE = class_palette(CLASSES)


@pytest.fixture
def written(monkeypatch):
    """Names and boxes as they are drawn."""
    found = {"names": [], "boxes": []}
    text, rectangle = ImageDraw.ImageDraw.text, ImageDraw.ImageDraw.rectangle
    monkeypatch.setattr(
        ImageDraw.ImageDraw, "text", lambda self, *a, **k: (found["names"].append(a[1]), text(self, *a, **k))
    )
    monkeypatch.setattr(
        ImageDraw.ImageDraw, "rectangle", lambda self, *a, **k: (found["boxes"].append(a[0]), rectangle(self, *a, **k))
    )
    return found


def test_each_class_has_its_colour_and_its_name(written):
    image = np.full((600, 500, 3), 100, np.uint8)
    label = np.zeros((600, 500), np.uint8)
    label[50:300, 20:200], label[400:500, 300:450] = 1, 2
    picture = np.asarray(label_overlay(image, label, CLASSES, PALETTE))
    assert picture.shape == image.shape
    assert picture[10, 10].tolist() == [100, 100, 100]
    assert picture[60, 30].tolist() == [114, 50, 50]  # half of (128, 0, 0)
    assert picture[490, 310].tolist() == [50, 114, 50]
    assert picture[299, 30].tolist() == [255, 255, 255]  # the border
    assert written["names"] == list(CLASSES)
    left, top, right, bottom = written["boxes"][0]
    assert label[(top + bottom) // 2, (left + right) // 2] == 1


def test_names_cover_no_other(written):
    label = np.ones((100, 100), np.uint8)
    label[50, 50] = 2  # in the middle of the other
    label_overlay(np.zeros((100, 100, 3), np.uint8), label, CLASSES, PALETTE)
    (_, top, _, bottom), (_, other, _, end) = written["boxes"]
    assert bottom <= other or end <= top


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (3000, 2)])
def test_any_size(size):
    image, label = np.zeros((*size, 3), np.uint8), np.full(size, 2, np.uint8)
    factor = max(1, 480 // max(size))
    wanted = (size[1] * factor, size[0] * factor)
    assert label_overlay(image, label, CLASSES, PALETTE).size == wanted
    assert heat_overlay(image, np.ones(size, np.float32), "cat").size == wanted


def test_classes_alone_are_named(written):
    label_overlay(np.zeros((9, 9, 3), np.uint8), np.zeros((9, 9), np.uint8), CLASSES, PALETTE)
    assert written["names"] == []
