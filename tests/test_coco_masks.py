"""COCO's masks against pycocotools, which everyone reads and writes them by."""

import json

import numpy as np
import pytest
from pycocotools import mask as run_lengths

from sfc.coco_masks import decode, encode
from tests.readers.coco_folder import compressed, uncompressed


def test_run_lengths_are_those_of_the_library():
    random = np.random.default_rng(0)
    for share in (0, 0.01, 0.5, 0.99, 1):
        pixels = random.random((37, 501)) < share
        np.testing.assert_array_equal(decode(compressed(pixels), 37, 501), pixels)
        np.testing.assert_array_equal(decode(uncompressed(pixels), 37, 501), pixels)


def test_polygons_may_reach_over_the_edge():
    assert decode([[-3, -3, 20, -3, 20, 20, -3, 20]], 12, 16).all()


@pytest.mark.parametrize("share", [0, 0.01, 0.5, 1])
def test_what_is_encoded_is_json_that_the_library_decodes(share):
    pixels = np.random.default_rng(0).random((23, 41)) < share
    coded = json.loads(json.dumps(encode(pixels)))
    np.testing.assert_array_equal(run_lengths.decode(coded), pixels)
    np.testing.assert_array_equal(decode(coded, 23, 41), pixels)
