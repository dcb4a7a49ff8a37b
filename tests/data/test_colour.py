"""Colour shifts against Python's own colour conversion."""

import colorsys

import numpy as np
import pytest

from sfc.data.colour import shift_hsv


def image():
    return np.random.default_rng(0).integers(0, 256, (6, 7, 3), dtype=np.uint8)


@pytest.mark.parametrize("shift", [(0, 0, 0), (10, 0, 0), (-10, 0, 0), (0, 10, 0), (0, -90, 0), (0, 0, 90), (3, -4, 5)])
def test_shift_is_that_of_the_colour_circle(shift):
    hue, saturation, value = shift
    found = shift_hsv(image(), *shift)
    assert found.dtype == np.uint8
    for y, x in np.ndindex(6, 7):
        h, s, v = colorsys.rgb_to_hsv(*(image()[y, x] / 255))
        h = (h + hue / 180) % 1
        s, v = (min(max(number, 0), 1) for number in (s + saturation / 255, v + value / 255))
        expected = 255 * np.array(colorsys.hsv_to_rgb(h, s, v))
        np.testing.assert_allclose(found[y, x], expected, atol=7)  # HSV in whole numbers rounds


def test_a_mirrored_view_is_taken():
    np.testing.assert_array_equal(shift_hsv(image()[:, ::-1], 5, 5, 5), shift_hsv(image(), 5, 5, 5)[:, ::-1])
