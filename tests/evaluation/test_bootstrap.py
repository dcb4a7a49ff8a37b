import tracemalloc

import numpy as np
import pytest

from sfc.evaluation import bootstrap
from sfc.evaluation.bootstrap import Bootstrap
from sfc.evaluation.confusion import Confusion, scores
from sfc.randomness import generator


def random_images(num_classes, number, seed=0):
    """{id: (truth, prediction)} whose classes differ: some are in few images, and the last image shows none."""
    rng, images = np.random.default_rng(seed), {}
    for i in range(number):
        shown = rng.choice(num_classes, min(3, num_classes), replace=False)
        truth = rng.choice(shown, (9, 11)).astype(np.uint8)
        wrong = rng.random(truth.shape) < rng.random()
        prediction = np.where(wrong, rng.integers(0, num_classes, truth.shape), truth).astype(np.uint8)
        truth[0], prediction[:, 0] = 255, 255
        images[f"{i:04}"] = (truth, prediction)
    images[f"{number - 1:04}"][0][:] = 255
    return images


def counted(images, num_classes):
    confusion = Confusion(num_classes)
    for id, (truth, prediction) in images.items():
        confusion.add(id, truth, prediction)
    return confusion


def plain_interval(images, num_classes, *, resamples, level, random_seed):
    """By the whole confusion matrices of the images drawn, one resample at a time."""
    matrices = [counted({id: images[id]}, num_classes).matrix for id in sorted(images)]
    rng, mious = generator(random_seed, "bootstrap"), []
    for _ in range(resamples):
        drawn = rng.integers(len(matrices), size=len(matrices))
        mious.append(scores(np.sum([matrices[i] for i in drawn], axis=0)).miou)
    tail = 50 * (1 - level)
    return tuple(np.nanpercentile(mious, [tail, 100 - tail]))


@pytest.mark.parametrize(("num_classes", "number"), [(1, 4), (2, 2), (4, 5), (9, 40), (81, 30)])
@pytest.mark.parametrize(("resamples", "level"), [(7, 0.95), (250, 0.8)])
def test_interval_equals_a_loop_over_resamples_of_whole_matrices(num_classes, number, resamples, level):
    images = random_images(num_classes, number)
    found = Bootstrap(resamples, level, 5).interval(counted(images, num_classes).per_image)
    expected = plain_interval(images, num_classes, resamples=resamples, level=level, random_seed=5)
    assert found == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("at_once", [1, 90, 10_000])
def test_the_same_whatever_is_summed_at_once(monkeypatch, at_once):
    per_image = counted(random_images(4, 30), 4).per_image
    expected = Bootstrap(17, 0.9, 0).resampled(per_image)
    monkeypatch.setattr(bootstrap, "_AT_ONCE", at_once)
    np.testing.assert_array_equal(Bootstrap(17, 0.9, 0).resampled(per_image), expected)


def test_memory_does_not_grow_with_images_times_resamples():
    per_image = {str(i): np.ones((3, 2), np.int32) for i in range(20_000)}
    tracemalloc.start()
    Bootstrap(100, 0.9, 0).resampled(per_image)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 25e6  # 100 resamples at once would be 32 MB


def test_two_images_give_the_three_mixtures_of_chance():
    """Of the resamples a quarter is twice the right image, a quarter twice the wrong one, half has both."""
    half = np.repeat(np.array([[0, 1]], np.uint8), 10, axis=0)
    per_image = counted({"right": (half, half), "wrong": (half, 1 - half)}, 2).per_image
    assert Bootstrap(2000, 0.9, 0).interval(per_image) == (0, 1)
    assert Bootstrap(2000, 0.4, 0).interval(per_image) == pytest.approx((1 / 3, 1 / 3))


def test_about_as_wide_as_the_spread_over_new_images():
    """The interval of one sample covers what other samples of as many images give."""
    mious = [scores(counted(random_images(4, 60, seed), 4).matrix).miou for seed in range(1, 80)]
    low, high = Bootstrap(1000, 0.95, 0).interval(counted(random_images(4, 60), 4).per_image)
    assert (high - low) == pytest.approx(2 * 1.96 * np.std(mious), rel=0.35)


def test_the_order_of_images_does_not_matter_but_the_seed_does():
    images = random_images(5, 12)
    forwards = counted(images, 5).per_image
    backwards = counted(dict(reversed(images.items())), 5).per_image
    assert list(forwards) != list(backwards)
    bootstrap = Bootstrap(150, 0.95, 0)
    assert bootstrap.interval(forwards) == bootstrap.interval(backwards)
    assert bootstrap.interval(forwards) != Bootstrap(150, 0.95, 1).interval(forwards)


def test_maps_of_the_same_images_are_resampled_alike():
    """Both limits of a single resample are its mIoU: that of the same draw for either map."""
    images = random_images(2, 25)
    worse = {id: (truth, np.where(truth == 1, 0, prediction)) for id, (truth, prediction) in images.items()}
    bootstrap = Bootstrap(1, 0.5, 9)
    (better, _), (lower, _) = (bootstrap.interval(counted(maps, 2).per_image) for maps in (images, worse))
    drawn = generator(9, "bootstrap").integers(25, size=25)
    for maps, miou in ((images, better), (worse, lower)):
        again = Confusion(2)
        for i in drawn:
            again.add("image", *maps[f"{i:04}"])
        assert scores(again.matrix).miou == pytest.approx(miou, rel=1e-12)


def test_no_resamples_no_interval():
    assert Bootstrap(0, 0.95, 0).interval(counted(random_images(3, 4), 3).per_image) is None


def test_nothing_measured_is_not_a_number():
    nothing = np.full((4, 4), 255, np.uint8)
    unmeasured = counted({"a": (nothing, np.zeros_like(nothing)), "b": (nothing, np.zeros_like(nothing))}, 3)
    for per_image in ({}, unmeasured.per_image):
        assert np.isnan(Bootstrap(20, 0.95, 0).interval(per_image)).all()
