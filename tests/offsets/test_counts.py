import numpy as np
import pytest

from sfc.errors import UserError
from sfc.offsets.counts import foreground, rights


@pytest.fixture
def labels():
    return np.random.default_rng(0).integers(0, 3, (2, 5, 7)).astype(np.uint8)


def test_foreground_is_what_has_a_class(labels):
    expected = [[sum(int(value > 0) for value in offset.ravel()), 35] for offset in labels]
    np.testing.assert_array_equal(foreground(labels), expected)


def test_rights_equal_a_loop_over_pixels(labels):
    truth = np.random.default_rng(2).choice(np.array([0, 1, 2, 255], np.uint8), (5, 7))
    found = rights("a", labels, truth, 4)
    expected = np.zeros((2, 3, 4), int)
    for o, offset in enumerate(labels):
        for wanted, given in zip(truth.ravel(), offset.ravel(), strict=True):
            if wanted != 255:
                expected[o, 0, wanted] += wanted == given
                expected[o, 1, wanted] += 1
                expected[o, 2, given] += 1
    np.testing.assert_array_equal(found, expected)


def test_a_mask_that_does_not_fit_is_one_line(labels):
    with pytest.raises(UserError, match="a: the prediction is 5x7"):
        rights("a", labels, np.zeros((5, 8), np.uint8), 4)
    with pytest.raises(UserError, match="the mask of a holds the value 4"):
        rights("a", labels, np.full((5, 7), 4, np.uint8), 4)
