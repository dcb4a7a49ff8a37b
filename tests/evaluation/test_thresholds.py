import math

import numpy as np
import pytest
import torch

from sfc.errors import UserError
from sfc.evaluation.confusion import Confusion, scores
from sfc.evaluation.thresholds import ThresholdSweep, sweep_thresholds


def test_thresholds_stop_before_the_end():
    assert sweep_thresholds(0.0, 0.6, 0.01) == [i / 100 for i in range(60)]
    assert sweep_thresholds(0.1, 0.35, 0.1) == [0.1, 0.2, 0.3]
    with pytest.raises(UserError, match=r"evaluate.sweep"):
        sweep_thresholds(0.5, 0.5, 0.1)


def plain_sweep(images, thresholds, num_classes):
    """A confusion matrix at each threshold, by argmax over [threshold, maps]."""
    matrices = []
    for threshold in thresholds:
        confusion = Confusion(num_classes)
        for truth, maps, classes in images:
            background = np.full((1, *truth.shape), threshold, np.float32)
            labels = np.array([0, *classes], np.uint8)[np.concatenate([background, maps]).argmax(0)]
            confusion.add("image", truth, labels)
        matrices.append(confusion.matrix)
    return np.stack(matrices)


def random_images(rng, num_classes):
    images = []
    for classes in ([2, 4], [1], [], [1, 2, 3, 4]):
        height, width = rng.integers(5, 20, 2)
        maps = rng.random((len(classes), height, width), np.float32)
        maps[rng.random(maps.shape) < 0.2] = 0.3  # ties between maps and with a threshold
        maps[rng.random(maps.shape) < 0.2] = 0
        truth = rng.choice(np.array([*range(num_classes), 255], np.uint8), (height, width))
        images.append((truth, maps, classes))
    return images


@pytest.mark.parametrize("thresholds", [[0.0], [0.0, 0.1, 0.2, 0.3, 0.4, 0.7], [0.3, 0.3001]])
def test_one_histogram_equals_a_loop_over_thresholds(thresholds):
    images = random_images(np.random.default_rng(3), 5)
    sweep = ThresholdSweep(5, thresholds)
    for truth, maps, classes in images:
        sweep.add("image", truth, torch.from_numpy(maps), classes)
    expected = plain_sweep(images, thresholds, 5)
    assert sweep.matrices().tolist() == expected.tolist()
    mious = [scores(matrix).miou for matrix in expected]
    assert sweep.best() == (thresholds[int(np.argmax(mious))], max(mious))


def test_the_lowest_of_equal_thresholds_is_named():
    sweep = ThresholdSweep(2, [0.1, 0.2, 0.9])
    sweep.add("image", np.array([[0, 1]], np.uint8), torch.tensor([[[0.1, 0.8]]]), [1])
    assert sweep.best() == (0.1, 1.0)


def test_nothing_measured_is_not_a_number():
    assert math.isnan(ThresholdSweep(3, [0.1]).best()[1])


def test_bad_images_are_refused():
    sweep = ThresholdSweep(3, [0.1])
    with pytest.raises(UserError, match=r"cat_7.*4x5.*2x2"):
        sweep.add("cat_7", np.zeros((2, 2), np.uint8), torch.zeros(1, 4, 5), [1])
    with pytest.raises(UserError, match="mask of cat_7 holds the value 3"):
        sweep.add("cat_7", np.full((2, 2), 3, np.uint8), torch.zeros(1, 2, 2), [1])
