"""Whole images at several scales against Pillow, one after another."""

import numpy as np
import pytest
import torch
from PIL import Image

from sfc.data.read_ahead import read_ahead, read_scaled
from sfc.errors import UserError
from tests.data.folder import record

SCALES = (1.0, 0.5, 1.5)
CPU = torch.device("cpu")


@pytest.fixture
def batches(tmp_path):
    sizes = [(20, 30), (20, 30), (3, 90), (1, 1)]
    records = [record(tmp_path / f"im{i}.png", size, seed=i) for i, size in enumerate(sizes)]
    return [records[:2], records[2:3], records[3:]]


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_batches_come_in_order_at_every_scale(batches, workers):
    found = list(read_ahead(batches, SCALES, device=CPU, workers=workers))
    assert len(found) == len(batches)
    for wanted, (records, images) in zip(batches, found, strict=True):
        assert list(records) == wanted
        for scale, scaled in zip(SCALES, images, strict=True):
            size = max(1, round(records[0].width * scale)), max(1, round(records[0].height * scale))
            expected = [Image.open(r.image).convert("RGB").resize(size, Image.Resampling.BICUBIC) for r in records]
            assert scaled.dtype == torch.uint8
            assert scaled.is_contiguous(memory_format=torch.channels_last)
            np.testing.assert_array_equal(scaled.permute(0, 2, 3, 1), np.stack(expected))


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_a_broken_image_is_named_in_its_turn(batches, workers):
    batches[1][0].image.write_bytes(b"no image")
    found = read_ahead(batches, SCALES, device=CPU, workers=workers)
    assert len(next(found)[1]) == len(SCALES)
    with pytest.raises(UserError, match=r"im2\.png: does not decode"):
        next(found)


@pytest.mark.parametrize("workers", [0, 2])
def test_broken_images_are_told_and_left_out(batches, workers):
    batches[0][0].image.write_bytes(b"no image")
    batches[1][0].image.unlink()
    told = []
    found = list(read_ahead(batches, [1.0], device=CPU, workers=workers, broken=lambda *fault: told.append(fault)))
    assert [(record.id, str(error).rpartition("/")[2][:16]) for record, error in told] == [
        ("im0", "im0.png: does no"),
        ("im2", "im2.png: no such"),
    ]
    assert [[record.id for record in records] for records, _ in found] == [["im1"], ["im3"]]
    np.testing.assert_array_equal(found[0][1][0][0].permute(1, 2, 0), np.array(Image.open(batches[0][1].image)))


def test_a_changed_image_is_named(batches):
    Image.new("RGB", (5, 4)).save(batches[0][1].image)
    with pytest.raises(UserError, match=r"im1\.png: 4 x 5 pixels, but the manifest says 20 x 30"):
        read_scaled(batches[0], SCALES)
