from pathlib import Path

import numpy as np
import pytest

from sfc.errors import UserError
from sfc.label_stats import classes_per_draw, classes_per_image, label_stats, label_stats_csv
from sfc.label_table import class_indices, read_label_table

VOC_TABLE = Path(__file__).resolve().parents[2] / "shared/real/labels/voc12_image_labels.csv"

# The public implementation on VOC's train_aug: images, total demand, DC with N = 396, and 1000 times Eq. 6.
PUBLIC = {
    "aeroplane": (590, 7536, 0.8065, 0.6312),
    "bicycle": (504, 7698, 0.9025, 0.7064),
    "bird": (705, 8062, 0.7726, 0.6048),
    "boat": (468, 8032, 0.9809, 0.7678),
    "bottle": (714, 8134, 0.7732, 0.6052),
    "bus": (393, 9036, 1.2084, 0.9459),
    "car": (1150, 12784, 0.8725, 0.6830),
    "cat": (1005, 11044, 0.8318, 0.6511),
    "chair": (1228, 13956, 0.9068, 0.7098),
    "cow": (267, 11118, 1.7694, 1.3850),
    "diningtable": (613, 7582, 0.7929, 0.6206),
    "dog": (1188, 13316, 0.8870, 0.6943),
    "horse": (445, 8308, 1.0424, 0.8159),
    "motorbike": (492, 7792, 0.9259, 0.7247),
    "person": (4155, 66642, 1.5451, 1.2094),
    "pottedplant": (522, 7626, 0.8765, 0.6861),
    "sheep": (300, 10524, 1.5955, 1.2488),
    "sofa": (649, 7726, 0.7801, 0.6106),
    "train": (503, 7704, 0.9042, 0.7078),
    "tvmonitor": (567, 7536, 0.8257, 0.6463),
}
RELEASED = {"draws": 4, "c_ibr": 3.0, "n_iter": 660}
BANK = {"batch_size": 16, "draws": 4, "replacement": True, "exclude_batch": False, "allow_empty": False, "seed": 0}


def matrix(counts):
    """Labels of images with one class each, `counts[c]` of class c."""
    return np.repeat(np.eye(len(counts)), counts, axis=0)


def test_published_demands_and_coefficients_follow_from_the_published_counts():
    stats = label_stats(matrix([n for n, *_ in PUBLIC.values()]), **RELEASED, norm="mean")
    assert stats.demand.tolist() == [demand for _, demand, *_ in PUBLIC.values()]
    assert np.round(stats.dc, 4).tolist() == [dc for *_, dc, _ in PUBLIC.values()]


def test_the_mean_over_classes_says_little_of_a_long_tail():
    """What a batch sees: 1.07 of VOC's released coefficients, two thirds of those of 213 to 10 images a class."""

    def over_instances(counts, **settings):
        dc = label_stats(matrix(counts), **settings).dc
        return sum(n * value for n, value in zip(counts, dc, strict=True)) / sum(counts)

    assert over_instances([n for n, *_ in PUBLIC.values()], **RELEASED, norm="mean") == pytest.approx(1.07, abs=0.005)
    tail = {"draws": 4, "c_ibr": 1.6, "n_iter": 21}
    counts = [213, 140, 90, 60, 40, 26, 17, 10]
    assert over_instances(counts, **tail, norm="mean") < 0.75
    assert over_instances(counts, **tail, norm="instances") == pytest.approx(1.0)


@pytest.fixture(scope="module")
def voc():
    if not VOC_TABLE.exists():
        pytest.skip(f"no label table {VOC_TABLE}")
    rows = [row.classes for row in read_label_table(VOC_TABLE).values() if row.split == "train_aug"]
    labels = np.zeros((len(rows), len(PUBLIC)))
    for i, names in enumerate(rows):
        labels[i, list(class_indices(names, tuple(PUBLIC)))] = 1
    return labels


def test_voc_as_published(voc):
    stats = label_stats(voc, **RELEASED, norm="mean")
    assert stats.n.tolist() == [n for n, *_ in PUBLIC.values()]
    assert stats.demand.tolist() == [demand for _, demand, *_ in PUBLIC.values()]
    assert stats.n_extra.tolist() == [396.0] * 20
    assert np.round(stats.dc, 4).tolist() == [dc for *_, dc, _ in PUBLIC.values()]
    printed = label_stats(voc, **RELEASED, norm="eq6")
    assert np.round(printed.dc * 1e3, 4).tolist() == [eq6 for *_, eq6 in PUBLIC.values()]


def test_three_ways_to_c_ibr_on_voc(voc):
    assert classes_per_image(voc) == pytest.approx(1.5553, abs=5e-5)
    assert classes_per_draw(voc, **BANK, epochs=3) == pytest.approx(1.864, abs=0.03)


@pytest.mark.parametrize("norm", ["mean", "instances", "eq6"])
@pytest.mark.parametrize("draws", [0, 4])
def test_equation_6_in_loops(norm, draws):
    labels = np.random.default_rng(7).random((300, 6)) < [0.5, 0.3, 0.2, 0.1, 0.05, 0.02]
    stats = label_stats(labels, draws=draws, c_ibr=1.7, n_iter=31, norm=norm)
    n = [sum(bool(row[c]) for row in labels) for c in range(6)]
    demand = [sum(abs(n[c] - n[i]) for i in range(6)) for c in range(6)]
    extra = draws * 1.7 * 31 / 6
    dc = [demand[c] / (sum(demand) / 6) / (n[c] + extra) for c in range(6)]
    if norm == "mean":
        dc = [value / (sum(dc) / 6) for value in dc]
    if norm == "instances":
        instances = [dc[c] for row in labels for c in range(6) if row[c]]
        dc = [value / (sum(instances) / len(instances)) for value in dc]
    assert stats.n.tolist() == n
    assert stats.demand.tolist() == demand
    np.testing.assert_allclose(stats.n_extra, extra, rtol=1e-12)
    np.testing.assert_allclose(stats.dc, dc, rtol=1e-12)


@pytest.mark.parametrize("counts", [[9, 9, 9], [9]])
def test_equal_counts_and_one_class_ask_for_no_weights(counts):
    for norm in ("mean", "instances"):
        stats = label_stats(matrix(counts), draws=2, c_ibr=1.5, n_iter=10, norm=norm)
        assert stats.demand.tolist() == [0] * len(counts)
        np.testing.assert_allclose(stats.dc, 1.0)
    printed = label_stats(matrix(counts), draws=2, c_ibr=1.5, n_iter=10, norm="eq6")
    np.testing.assert_allclose(printed.dc, 1 / (9 + 30 / len(counts)))


@pytest.mark.parametrize("norm", ["mean", "instances", "eq6"])
@pytest.mark.parametrize("draws", [0, 2])
def test_class_without_image_takes_no_part(norm, draws):
    settings = {"draws": draws, "c_ibr": 1.5, "n_iter": 10, "norm": norm}
    with_it = label_stats(matrix([20, 0, 5, 10]), **settings)
    without = label_stats(matrix([20, 5, 10]), **settings)
    for name in ("n", "demand", "n_extra", "dc"):
        assert getattr(with_it, name)[1] == 0
        assert np.delete(getattr(with_it, name), 1).tolist() == getattr(without, name).tolist()


def test_no_label_at_all():
    with pytest.raises(UserError, match="no training image has a label"):
        label_stats(np.zeros((5, 3)), draws=4, c_ibr=1.0, n_iter=1, norm="mean")


def test_simulated_draws_against_a_closed_form():
    """Each class has images of one kind only, so every draw is uniform over known label counts."""
    labels = np.array([[1, 0, 0, 0], [0, 1, 1, 1]] * 40, dtype=np.float32)
    drawn = classes_per_draw(labels, **{**BANK, "batch_size": 8}, epochs=40)
    assert drawn == pytest.approx((1 + 3 * 3) / 4, abs=0.05)
    assert classes_per_image(labels) == 2.0


def test_images_without_a_class_change_no_weight_and_are_never_drawn():
    """Against the same images without them; the bank and its draws know images of a class alone."""
    shown = np.random.default_rng(3).random((80, 4)) < [0.5, 0.3, 0.2, 0.1]
    shown = shown[shown.any(axis=1)]
    mixed = np.insert(shown, np.arange(0, len(shown), 2), False, axis=0)
    assert classes_per_image(mixed) == classes_per_image(shown) == shown.sum() / len(shown)
    settings = {"draws": 4, "c_ibr": 1.4, "n_iter": 9, "norm": "instances"}
    assert label_stats(mixed, **settings).dc.tolist() == label_stats(shown, **settings).dc.tolist()
    alike = np.array([[1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 1, 1]] * 30, dtype=np.float32)
    assert classes_per_draw(alike, **{**BANK, "batch_size": 9}, epochs=2) == 2.0


def test_simulation_is_seeded_and_knows_the_bank():
    labels = np.random.default_rng(0).random((64, 5)) < 0.3

    def drawn(**changes):
        return classes_per_draw(labels, **{**BANK, "batch_size": 8, "epochs": 2, **changes})

    assert drawn() == drawn()
    assert drawn(seed=1) != drawn()
    assert drawn(exclude_batch=True) != drawn()
    assert drawn(draws=0) == 0.0
    with pytest.raises(UserError, match="fewer than one batch"):
        drawn(batch_size=65)


def test_csv_keeps_all_digits_that_matter():
    stats = label_stats(matrix([20, 5]), draws=1, c_ibr=1.5, n_iter=7, norm="mean")
    lines = label_stats_csv(stats, ["ant", "bee"]).splitlines()
    assert lines[0] == "class,n,demand,n_extra,dc"
    name, n, demand, n_extra, dc = lines[1].split(",")
    assert (name, n, demand, n_extra) == ("ant", "20", "15", "5.25")
    assert float(dc) == pytest.approx(stats.dc[0], rel=1e-9)
