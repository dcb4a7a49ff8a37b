import sys

import numpy as np
import pytest

from sfc.dense_crf import (
    DenseCrf,
    crf_probabilities,
    label_energy,
    probability_energy,
    refine_cams,
)
from sfc.errors import UserError

PAIRWISE = {
    "gaussian_sxy": 3.0,
    "gaussian_compat": 3.0,
    "bilateral_sxy": 20.0,
    "bilateral_srgb": 13.0,
    "bilateral_compat": 10.0,
}
LABELS = {"mode": "label", "iterations": 5, "gt_prob": 0.7, "confident_bg_scale": 0.5}


def _scene(size=(24, 32), channels=3, seed=0):
    """A picture of coloured stripes, and CAMs that know roughly where they are."""
    rng = np.random.default_rng(seed)
    stripes = np.arange(size[1]) * channels // size[1]
    image = np.array([[200, 60, 60], [60, 200, 60], [60, 60, 200], [200, 200, 60]])[stripes]
    image = np.clip(image + rng.normal(0, 12, (*size, 3)), 0, 255).astype(np.uint8)
    cams = (stripes == np.arange(channels)[:, None, None]) * 0.5 + rng.random((channels, *size))
    return image, cams.astype(np.float32)


def _plain_crf(image, energy, iterations):
    """pydensecrf as its documentation uses it, a new object each time."""
    densecrf = pytest.importorskip("pydensecrf.densecrf")
    height, width = image.shape[:2]
    crf = densecrf.DenseCRF2D(width, height, len(energy))
    crf.setUnaryEnergy(energy)
    crf.addPairwiseGaussian(sxy=3, compat=3)
    crf.addPairwiseBilateral(sxy=20, srgb=13, rgbim=image, compat=10)
    return np.array(crf.inference(iterations)).reshape(-1, height, width)


def test_energies_equal_the_definition():
    labels = np.array([[0, 2], [1, 1]])
    energy = label_energy(labels, 3, 0.7)
    probabilities = np.array([0.0, 0.25, 0.75])[:, None, None]
    assert energy.dtype == np.float32
    for k in range(3):
        for y, x in np.ndindex(2, 2):
            expected = -np.log(0.7) if labels[y, x] == k else -np.log(0.3 / 2)
            assert energy[k, y, x] == pytest.approx(expected, rel=1e-6)
    np.testing.assert_allclose(probability_energy(probabilities).ravel(), -np.log([1e-5, 0.25, 0.75]), rtol=1e-6)


def test_energies_equal_the_packages():
    utils = pytest.importorskip("pydensecrf.utils")
    labels = np.random.default_rng(0).integers(0, 4, (6, 5))
    theirs = utils.unary_from_labels(labels, 4, 0.7, zero_unsure=False)
    np.testing.assert_array_equal(label_energy(labels, 4, 0.7).reshape(4, -1), theirs)
    probabilities = np.random.default_rng(1).random((4, 6, 5), dtype=np.float32)
    np.testing.assert_array_equal(
        probability_energy(probabilities).reshape(4, -1), utils.unary_from_softmax(probabilities)
    )


def test_one_lattice_serves_all_unaries_bit_for_bit():
    image, cams = _scene()
    crf = DenseCrf(image, 3, **PAIRWISE)
    first, second = label_energy(cams.argmax(0), 3, 0.7), label_energy(cams[::-1].argmax(0), 3, 0.9)
    for energy in (first, second, first):
        assert np.array_equal(crf.infer(energy, 4), _plain_crf(image, energy.reshape(3, -1), 4))


def test_inference_is_mean_field_on_a_dense_graph():
    """Against sums over all pairs of pixels in float64; the lattice is an approximation, so not to the last digit."""
    image, cams = _scene((9, 12))
    energy = label_energy(cams.argmax(0), 3, 0.7).astype(np.float64).reshape(3, -1)
    y, x = np.mgrid[:9, :12].reshape(2, -1)
    place = (y[:, None] - y) ** 2 + (x[:, None] - x) ** 2
    colour = image.reshape(-1, 3).astype(np.float64)
    colour = ((colour[:, None] - colour) ** 2).sum(-1)
    kernel = np.zeros_like(colour)
    for weight, exponent in ((3, place / 3**2), (10, place / 20**2 + colour / 13**2)):
        similarity = np.exp(-exponent / 2)
        root = 1 / np.sqrt(similarity.sum(1))  # symmetric normalisation
        kernel += weight * root[:, None] * similarity * root
    q = np.exp(-energy) / np.exp(-energy).sum(0)
    for _ in range(5):
        q = np.exp(-energy + q @ kernel)
        q /= q.sum(0)
    ours = DenseCrf(image, 3, **PAIRWISE).infer(energy, 5).reshape(3, -1)
    assert (ours.argmax(0) == q.argmax(0)).mean() > 0.97
    assert np.abs(ours - q).mean() < 0.05
    assert (energy.argmin(0) != q.argmax(0)).mean() > 0.1  # there was something to change


def test_confident_labels_follow_the_procedure():
    image, cams = _scene(channels=4)
    keys = (0, 3, 8, 250)
    refined, confident = refine_cams(image, cams, keys, **LABELS, **PAIRWISE)
    results = []
    for background in (1.0, 0.5):
        scaled = cams.copy()
        scaled[0] *= background
        energy = label_energy(scaled.argmax(0), 4, 0.7).reshape(4, -1)
        results.append(_plain_crf(image, energy, 5).argmax(0))
    for y, x in np.ndindex(*confident.shape):
        foreground, background = (keys[r[y, x]] for r in results)
        assert refined[y, x] == foreground
        assert confident[y, x] == (foreground or (255 if background else 0))
    assert set(np.unique(confident)) == {*keys, 255}
    assert refined.dtype == confident.dtype == np.uint8


def test_prob_mode_changes_only_the_refined_labels():
    image, cams = _scene()
    once = LABELS | {"iterations": 1}  # before both agree on the stripes
    plain = refine_cams(image, cams, (0, 1, 2), **once, **PAIRWISE)
    refined, confident = refine_cams(image, cams, (0, 1, 2), **(once | {"mode": "prob"}), **PAIRWISE)
    probabilities = cams / (cams.sum(0) + 1e-5)
    expected = _plain_crf(image, -np.log(np.clip(probabilities, 1e-5, 1)).reshape(3, -1), 1)
    np.testing.assert_array_equal(refined, expected.argmax(0))
    np.testing.assert_array_equal(confident, plain[1])
    assert (refined != plain[0]).any()


def test_read_only_inputs_are_left_alone():
    image, cams = _scene()
    copies = image.copy(), cams.copy()
    image.flags.writeable = cams.flags.writeable = False  # as decoded images are
    refine_cams(image, cams, (0, 1, 2), **LABELS, **PAIRWISE)
    np.testing.assert_array_equal(image, copies[0])
    np.testing.assert_array_equal(cams, copies[1])


def test_an_image_without_classes_needs_no_crf(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydensecrf", None)
    image, cams = _scene(channels=1)
    refined, confident = refine_cams(image, cams, (0,), **LABELS, **PAIRWISE)
    for labels in (refined, confident):
        np.testing.assert_array_equal(labels, np.zeros(image.shape[:2], np.uint8))


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydensecrf", None)
    with pytest.raises(UserError, match="pip install pydensecrf2"):
        DenseCrf(*_scene()[:1], 3, **PAIRWISE)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (7, 1)])
def test_images_of_one_row_or_column(size):
    image, cams = _scene(size, channels=2)
    refined, confident = refine_cams(image, cams, (0, 5), **LABELS, **PAIRWISE)
    assert refined.shape == confident.shape == size


def test_probabilities_are_sharpened_as_by_the_full_crf():
    image, cams = _scene(channels=4)
    logits = np.concatenate([10 * cams, np.full((17, *cams.shape[1:]), -3)])  # 17 classes that are not there
    logits += np.random.default_rng(2).normal(0, 0.3, logits.shape)
    probabilities = (np.exp(logits) / np.exp(logits).sum(0)).astype(np.float32)
    refined = crf_probabilities(image, probabilities, iterations=5, **PAIRWISE)
    full = _plain_crf(image, probability_energy(probabilities).reshape(21, -1), 5)
    left_out = probabilities.max((1, 2)) < 0.01
    assert left_out.sum() == 17
    assert not refined[left_out].any()
    assert (refined.argmax(0) == full.argmax(0)).all()
    assert refined.dtype == np.float32
    np.testing.assert_allclose(refined.sum(0), 1, rtol=1e-4)


def test_probabilities_without_rivals_come_back():
    image, _ = _scene()
    probabilities = np.zeros((5, *image.shape[:2]), np.float32)
    probabilities[3] = 1
    assert crf_probabilities(image, probabilities, iterations=5, **PAIRWISE) is probabilities


def test_the_most_probable_of_many_classes_stays_in():
    image, _ = _scene((4, 4))
    probabilities = np.full((200, 4, 4), 1 / 200, np.float32)
    probabilities[7, :2] += 1e-4
    probabilities[9, 2:] += 1e-4
    refined = crf_probabilities(image, probabilities, iterations=1, **PAIRWISE)
    assert set(np.flatnonzero(refined.max((1, 2)))) == {7, 9}
