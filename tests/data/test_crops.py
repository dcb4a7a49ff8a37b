import colorsys

import numpy as np
import pytest
import torch

from sfc.data.crops import ImageCrops, LabelledCrops, Window, shift_hsv
from sfc.data.images import read_image, scaled_size
from sfc.randomness import generator
from tests.data.folder import records

SIZES = ((30, 40), (50, 20), (24, 24))


def image_crops(folder, **changes):
    settings = {"crop": 32, "long_side": (20, 60), "seed": 3}
    return ImageCrops(records(folder, SIZES), 3, **{**settings, **changes})


def position_label(record):
    """A label map in which each pixel's value tells its row."""
    return np.repeat(np.arange(record.height, dtype=np.uint8)[:, None], record.width, axis=1)


def test_sample_form(tmp_path):
    sample = image_crops(tmp_path)[2, 0]
    assert {k: (tuple(v.shape), v.dtype) for k, v in sample.items()} == {
        "image": ((3, 32, 32), torch.uint8),
        "box": ((4,), torch.int64),
        "label": ((3,), torch.float32),
        "index": ((), torch.int64),
    }
    assert sample["label"].tolist() == [1, 0, 1]
    assert sample["index"] == 2


def test_sample_depends_on_seed_epoch_and_index_alone(tmp_path):
    crops = image_crops(tmp_path)
    first = crops[1, 4]
    crops[0, 0]
    again = crops[1, 4]
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert not torch.equal(first["image"], crops[1, 5]["image"])
    assert not torch.equal(first["image"], image_crops(tmp_path, seed=4)[1, 4]["image"])


def test_long_sides_cover_the_whole_range(tmp_path):
    crops = image_crops(tmp_path, crop=8, long_side=(5, 7))
    sides = set()
    for epoch in range(40):
        top, left, bottom, right = crops[0, epoch]["box"].tolist()
        sides.add(right - left)
        assert bottom - top == round((right - left) * 30 / 40)
    assert sides == {5, 6, 7}


def test_crop_is_a_piece_of_the_image_or_its_mirror(tmp_path):
    """At its own size nothing is interpolated, so the pixels must be found again."""
    crops = image_crops(tmp_path, long_side=(40, 40))
    image = read_image(tmp_path / "0.png")  # 30 x 40 in a canvas of 32 x 32
    flips, lefts, tops = set(), set(), set()
    for epoch in range(30):
        sample = crops[0, epoch]
        top, left, bottom, right = sample["box"].tolist()
        assert (bottom - top, left, right) == (30, 0, 32)
        found = sample["image"].permute(1, 2, 0).numpy()
        outside = np.ones((32, 32), bool)
        outside[top:bottom] = False
        assert not found[outside].any()
        matches = [
            (flip, x)
            for flip in (False, True)
            for x in range(9)
            if np.array_equal((image[:, ::-1] if flip else image)[:, x : x + 32], found[top:bottom])
        ]
        assert len(matches) == 1
        flips.add(matches[0][0])
        lefts.add(matches[0][1])
        tops.add(top)
    assert flips == {False, True}
    assert len(lefts) > 5
    assert tops == {0, 1, 2}


@pytest.mark.parametrize("shape", [(10, 50), (50, 10), (7, 7), (60, 60), (20, 20)])
def test_window(shape):
    array = np.random.default_rng(0).integers(1, 255, (*shape, 2), dtype=np.uint8)
    for number in range(20):
        window = Window(generator(0, "test", number), shape, 20)
        top, left, bottom, right = window.box
        assert (bottom - top, right - left) == (min(20, shape[0]), min(20, shape[1]))
        cut = window.cut(array, 9)
        outside = np.ones((20, 20), bool)
        outside[top:bottom, left:right] = False
        assert (cut[outside] == 9).all()
        inside = cut[top:bottom, left:right]
        places = np.lib.stride_tricks.sliding_window_view(array, inside.shape)
        assert (places == inside).all(axis=(-3, -2, -1)).any()


def test_labelled_crop_moves_image_and_label_together(tmp_path):
    crops = LabelledCrops(
        records(tmp_path, SIZES),
        position_label,
        crop=32,
        rescale=(1.0,),
        uniform=False,
        image_scale=1.0,
        hsv_jitter=0,
        seed=0,
    )
    image = read_image(tmp_path / "1.png")  # 50 x 20
    for epoch in range(10):
        sample = crops[1, epoch]
        assert sample["mask"].dtype == torch.uint8
        top, left, bottom, right = sample["box"].tolist()
        assert (top, bottom, right - left) == (0, 32, 20)
        first = int(sample["mask"][0, left])
        piece = image[first : first + 32]
        found = sample["image"].permute(1, 2, 0).numpy()[:, left:right]
        assert np.array_equal(found, piece) or np.array_equal(found, piece[:, ::-1])
        mask = sample["mask"].numpy().copy()
        assert (mask[:, left:right] == np.arange(first, first + 32)[:, None]).all()
        mask[:, left:right] = 255
        assert (mask == 255).all()


def test_rescaling(tmp_path):
    def heights(**settings):
        crops = LabelledCrops(records(tmp_path, SIZES), position_label, crop=99, hsv_jitter=0, seed=0, **settings)
        boxes = [crops[2, epoch]["box"] for epoch in range(60)]
        return {int(bottom - top) for top, _, bottom, _ in boxes}

    assert heights(rescale=(0.5, 2.0), uniform=False, image_scale=1.0) == {12, 48}
    assert heights(rescale=(0.5, 2.0), uniform=False, image_scale=0.5) == {6, 24}
    drawn = heights(rescale=(0.5, 2.0), uniform=True, image_scale=1.0)
    assert min(drawn) >= 12
    assert max(drawn) <= 48
    assert len(drawn) > 15


def test_colours_move_and_nothing_else_does(tmp_path):
    settings = {"crop": 32, "rescale": (0.5, 1.5), "uniform": True, "image_scale": 1.0, "seed": 0}
    plain, moved = (
        LabelledCrops(records(tmp_path, SIZES), position_label, hsv_jitter=jitter, **settings) for jitter in (0, 10)
    )
    for epoch in range(5):
        before, after = plain[1, epoch], moved[1, epoch]
        assert torch.equal(before["box"], after["box"])
        assert torch.equal(before["mask"], after["mask"])
        difference = (before["image"].int() - after["image"].int()).abs()
        assert 0 < difference.max() < 120
        top, left, bottom, right = after["box"].tolist()
        difference[:, top:bottom, left:right] = 0
        assert not difference.any()  # outside the image


def test_scaled_size_is_never_empty():
    assert scaled_size((3, 100), 0.1) == (1, 10)


def colours():
    return np.random.default_rng(0).integers(0, 256, (6, 7, 3), dtype=np.uint8)


@pytest.mark.parametrize("shift", [(0, 0, 0), (10, 0, 0), (-10, 0, 0), (0, 10, 0), (0, -90, 0), (0, 0, 90), (3, -4, 5)])
def test_shift_is_that_of_the_colour_circle(shift):
    hue, saturation, value = shift
    found = shift_hsv(colours(), *shift)
    assert found.dtype == np.uint8
    for y, x in np.ndindex(6, 7):
        h, s, v = colorsys.rgb_to_hsv(*(colours()[y, x] / 255))
        h = (h + hue / 180) % 1
        s, v = (min(max(number, 0), 1) for number in (s + saturation / 255, v + value / 255))
        expected = 255 * np.array(colorsys.hsv_to_rgb(h, s, v))
        np.testing.assert_allclose(found[y, x], expected, atol=7)  # HSV in whole numbers rounds


def test_a_mirrored_view_is_taken():
    np.testing.assert_array_equal(shift_hsv(colours()[:, ::-1], 5, 5, 5), shift_hsv(colours(), 5, 5, 5)[:, ::-1])
