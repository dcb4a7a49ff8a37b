import numpy as np
import pytest

from sfc.offsets.masks import least_covered


def plain(labels, count, taken):
    """One image after another, from all counts anew."""
    taken, new = list(taken), []
    rarity = {c: sum(c in classes for classes in labels) for classes in labels for c in classes}
    for _ in range(count):
        open_classes = {c for i, classes in enumerate(labels) if i not in taken for c in classes}
        if not open_classes:
            break
        c = sorted(open_classes, key=lambda c: (sum(c in labels[i] for i in taken), rarity[c], c))[0]
        image = next(i for i, classes in enumerate(labels) if c in classes and i not in taken)
        taken.append(image)
        new.append(image)
    return new


@pytest.fixture(params=range(20))
def labels(request):
    """Images of up to 7 classes, the later ones rarer."""
    rng = np.random.default_rng(request.param)
    rates = 0.6 / np.arange(1, rng.integers(2, 8))
    return [tuple(np.flatnonzero(rng.random(len(rates)) < rates).tolist()) for _ in range(40)]


def test_the_least_covered_class_is_next(labels):
    rng = np.random.default_rng(len(labels[0]))
    for count in (1, 4, 9, 99):
        for taken in ((), rng.choice(40, 5, replace=False).tolist()):
            assert least_covered(labels, count, taken) == plain(labels, count, taken)


def test_a_few_and_later_more_are_the_same_images_as_all_at_once(labels):
    at_once, steps = least_covered(labels, 24), []
    for count in (1, 3, 4, 8, 16, 24):
        steps += least_covered(labels, count - len(steps), steps)
    assert steps == at_once


def test_every_class_is_covered_before_one_takes_a_second_image():
    labels = [(0,)] * 10 + [(1,), (0, 1), (), (2,)]
    assert least_covered(labels, 3) == [13, 10, 0]
    assert least_covered(labels, 2, taken=[0, 1]) == [13, 10]  # whatever was taken for another reason counts
    assert least_covered(labels, 99) == [13, 10, 0, 11, *range(1, 10)]  # the image without a class never
    assert least_covered([], 3) == []
