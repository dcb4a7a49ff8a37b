import math

import numpy as np
import pytest

from sfc.evaluation.bootstrap import Bootstrap
from sfc.evaluation.confusion import mean_iou
from sfc.offsets.choice import Choice, halving


def test_halving_is_best_where_half_of_the_lowest_offset_s_foreground_is_left():
    counts = np.array([[80, 200], [60, 200], [39, 200], [10, 200], [0, 200]])
    assert halving(counts) == pytest.approx([-0.5, -0.25, -(40 - 39) / 80, -0.375, -0.5])
    nothing = np.array([[0, 9], [0, 9]])
    assert halving(nothing).tolist() == [-0.5, -0.5]


def test_halving_of_many_resamples_is_that_of_each():
    counts = np.random.default_rng(0).integers(1, 50, (7, 5, 2))
    np.testing.assert_array_equal(halving(counts), [halving(resample) for resample in counts])


@pytest.fixture
def counts():
    """Of 30 images rights at 4 offsets and 3 classes, the third offset best on most."""
    rng, images = np.random.default_rng(1), {}
    for i in range(30):
        true = rng.integers(20, 90, 3)
        share = np.array([0.3, 0.53, 0.55, 0.54])[:, None] + rng.normal(0, 0.2, (4, 3))
        right = (true * np.clip(share, 0, 1)).astype(int)
        predicted = right + rng.integers(0, 30, (4, 3))
        images[f"{i:02}"] = np.stack([right, np.broadcast_to(true, (4, 3)), predicted], axis=1)
    return images


def test_choice_equals_a_loop_over_resamples(counts):
    bootstrap = Bootstrap(60, 0.8, 5)
    resampled = bootstrap.resampled(counts)
    choice = Choice(mean_iou(sum(counts.values())), mean_iou(resampled))
    mious = [[plain_miou(offset) for offset in resample] for resample in resampled]
    np.testing.assert_allclose(choice.resampled, mious, rtol=1e-12)
    scores = [plain_miou(offset) for offset in sum(counts.values())]
    best = scores.index(max(scores))
    bests = sorted(row.index(max(row)) for row in mious)
    assert choice.best == best
    assert choice.share == pytest.approx(bests.count(best) / 60)
    assert 0 < choice.share < 1
    assert choice.range(0.8) == (bests[math.ceil(0.1 * 60) - 1], bests[math.ceil(0.9 * 60) - 1])
    gain, low, high = choice.gain(0, 0.8)
    gains = [row[best] - row[0] for row in mious]
    assert gain == pytest.approx(scores[best] - scores[0])
    assert (low, high) == pytest.approx(tuple(np.percentile(gains, [10, 90])))
    assert choice.surely_above(0, 0.8) == (low > 0)
    assert not choice.surely_above(best, 0.8)


def plain_miou(counted):
    ious = [right / (true + given - right) for right, true, given in counted.T if true]
    return sum(ious) / len(ious)


def test_one_image_leaves_no_doubt_and_no_resample_says_nothing(counts):
    one = {"00": counts["00"]}
    sure = Choice(mean_iou(one["00"]), mean_iou(Bootstrap(20, 0.95, 0).resampled(one)))
    assert sure.share == 1
    assert sure.range(0.95) == (sure.best, sure.best)
    assert math.isnan(Choice(sure.scores, mean_iou(Bootstrap(0, 0.95, 0).resampled(one))).share)
