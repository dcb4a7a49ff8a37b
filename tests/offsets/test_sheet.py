import dataclasses

import numpy as np
import pytest
from PIL import Image

from sfc.evaluation import drawing
from sfc.offsets.sheet import offset_block, shown_offsets


@pytest.mark.parametrize("show_mask", [True, False])
def test_a_block_has_a_column_an_offset_and_the_share_of_foreground_of_each(tiny, show_mask):
    labels, record = tiny.labels(), tiny.records[1]
    mask = record.image.with_name("mask.png")
    Image.fromarray(np.full((20, 26), 2, np.uint8)).save(mask)
    record = dataclasses.replace(record, mask=mask)
    cams, crf = labels.of_cams(record), labels.of_crf(record)
    block = offset_block(record, cams, crf, {0: "0", 2: "0.6 (now)"}, ("ant", "bee", "cat"), show_mask=show_mask)
    assert block.title == "b: bee, cat"
    captions = [[caption for caption, _ in row] for row in block.rows]
    shares = [[round(100 * (maps[i] > 0).mean()) for i in (0, 2)] for maps in (cams, crf)]
    first, second = (["image", "mask"], ["colours", ""]) if show_mask else (["image"], ["colours"])
    assert captions == [
        [*first, f"0: CAM, {shares[0][0]} % foreground", f"0.6 (now): CAM, {shares[0][1]} % foreground"],
        [*second, f"0: CRF, {shares[1][0]} % foreground", f"0.6 (now): CRF, {shares[1][1]} % foreground"],
    ]
    assert block.rows[1][-1][1].tobytes() == drawing.label_picture(crf[2]).tobytes()
    if show_mask:
        assert block.rows[0][1][1].tobytes() == drawing.label_picture(np.full((20, 26), 2, np.uint8)).tobytes()


def test_offsets_are_spread_evenly_and_the_marked_ones_among_them():
    assert shown_offsets(20, [4], 6) == [0, 4, 8, 11, 15, 19]
    assert shown_offsets(20, [5, 6], 3) == [0, 5, 6, 10, 19]
    assert shown_offsets(2, [1], 6) == [0, 1]
