from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from sfc.errors import UserError
from sfc.evaluation.confusion import Confusion, all_background, scores


def random_maps(rng, num_classes, size=(13, 17)):
    """Ground truth and prediction with some 255 in both."""
    values = np.array([*range(num_classes), 255], np.uint8)
    return rng.choice(values, size), rng.choice(values, size)


def plain_matrix(pairs, num_classes):
    matrix = [[0] * num_classes for _ in range(num_classes)]
    for truth, prediction in pairs:
        for t, p in zip(truth.ravel().tolist(), prediction.ravel().tolist(), strict=True):
            if t != 255:
                matrix[t][0 if p == 255 else p] += 1
    return matrix


def plain_scores(matrix):
    """(iou, fp rate, fn rate) of each class by loops, None for a class without ground truth."""
    k = range(len(matrix))
    found = []
    for c in k:
        right = matrix[c][c]
        missed = sum(matrix[c][p] for p in k if p != c)
        wrong = sum(matrix[t][c] for t in k if t != c)
        union = right + missed + wrong
        found.append((right / union, wrong / union, missed / union) if right + missed else None)
    return found


@pytest.mark.parametrize("num_classes", [1, 2, 6, 81, 255])
def test_streamed_matrix_equals_loops(num_classes):
    rng = np.random.default_rng(num_classes)
    pairs = [random_maps(rng, num_classes) for _ in range(3)]
    confusion = Confusion(num_classes)
    for i, (truth, prediction) in enumerate(pairs):
        confusion.add(f"image{i}", truth, prediction)
    assert confusion.matrix.dtype == np.int64
    assert confusion.matrix.tolist() == plain_matrix(pairs, num_classes)
    assert confusion.images.tolist() == [sum((t == c).any() for t, _ in pairs) for c in range(num_classes)]
    for i, pair in enumerate(pairs):
        matrix, counts = np.array(plain_matrix([pair], num_classes)), confusion.per_image[f"image{i}"]
        assert counts.dtype == np.int32
        assert counts.tolist() == [matrix.diagonal().tolist(), matrix.sum(1).tolist(), matrix.sum(0).tolist()]
    assert confusion.undecided == sum(((t != 255) & (p == 255)).sum() for t, p in pairs)


def test_adding_from_threads_loses_nothing():
    rng = np.random.default_rng(0)
    pairs = [random_maps(rng, 5) for _ in range(200)]
    confusion = Confusion(5)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda pair: confusion.add("image", *pair), pairs))
    assert confusion.per_image["image"][1].tolist() == confusion.matrix.sum(1).tolist()
    assert confusion.matrix.tolist() == plain_matrix(pairs, 5)


def test_scores_equal_loops():
    rng = np.random.default_rng(1)
    matrix = rng.integers(0, 50, (6, 6))
    matrix[4] = 0  # a class that is predicted but never there
    matrix[5] = matrix[:, 5] = 0  # a class that is neither
    found, expected = scores(matrix), plain_scores(matrix.tolist())
    columns = np.stack([found.iou, found.false_positive_rate, found.false_negative_rate], 1)
    for row, values in zip(columns, expected, strict=True):
        if values is None:
            assert np.isnan(row).all()
        else:
            np.testing.assert_allclose(row, values, rtol=1e-12)
            assert row.sum() == pytest.approx(1)
    known = [values[0] for values in expected if values]
    assert len(known) == 4
    assert found.miou == pytest.approx(sum(known) / 4)
    assert found.pixel_accuracy == pytest.approx(np.trace(matrix) / matrix.sum())


def test_over_and_under_activation_are_told_apart():
    # class 1: 10 pixels, all found, and 30 of background taken as well; class 2: 10 pixels, 2 found
    over_under = np.array([[50, 30, 0], [0, 10, 0], [8, 0, 2]])
    found = scores(over_under)
    assert found.false_positive_rate[1:].tolist() == [0.75, 0.0]
    assert found.false_negative_rate[1:].tolist() == [0.0, 0.8]


def test_all_background_is_the_trivial_answer():
    truth = np.array([[0, 0, 0, 1], [0, 0, 2, 255]], np.uint8)
    answered, trivial = Confusion(4), Confusion(4)
    answered.add("image", truth, np.where(truth == 255, 0, truth).astype(np.uint8))
    trivial.add("image", truth, np.zeros_like(truth))
    assert (all_background(answered.matrix) == trivial.matrix).all()
    assert scores(all_background(answered.matrix)).miou == pytest.approx(5 / 7 / 3)
    assert scores(answered.matrix).miou == 1


def test_nothing_measured_is_not_a_number():
    found = scores(np.zeros((3, 3), np.int64))
    assert np.isnan([found.miou, found.pixel_accuracy, *found.iou]).all()


def test_wrong_size_is_refused():
    with pytest.raises(UserError, match=r"2007_000032.*3x4.*4x3"):
        Confusion(2).add("2007_000032", np.zeros((4, 3), np.uint8), np.zeros((3, 4), np.uint8))


@pytest.mark.parametrize("where", ["prediction", "mask"])
def test_value_outside_the_label_set_is_refused(where):
    confusion = Confusion(3)
    maps = {"mask": np.zeros((2, 2), np.uint8), "prediction": np.zeros((2, 2), np.uint8)}
    maps[where][1, 1] = 3
    with pytest.raises(UserError, match=f"{where} of cat_7 holds the value 3"):
        confusion.add("cat_7", maps["mask"], maps["prediction"])
    assert not confusion.matrix.any()


def test_value_outside_the_label_set_is_refused_even_where_nothing_is_measured():
    with pytest.raises(UserError, match="value 9"):
        Confusion(3).add("image", np.full((1, 1), 255, np.uint8), np.full((1, 1), 9, np.uint8))
