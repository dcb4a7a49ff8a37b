"""Class-by-class cosines against loops over pixels in float64, and what is read off them."""

import csv
import math

import numpy as np
import pytest
import torch

from sfc.analysis.shared_features import FeatureSums, SharedFeatures, region_map
from sfc.analysis.summary import activations, end_means, ends, head_to_tail
from sfc.analysis.tables import KINDS, read_rates, write_cosines, write_rates
from sfc.errors import UserError
from sfc.evaluation.confusion import Confusion
from sfc.evaluation.tables import Measured, write_per_class

CLASSES, CHANNELS = 3, 5
LABELS = torch.tensor([[1.0, 1, 0], [0, 1, 0], [1, 0, 0]])  # nobody shows class 2


def inputs():
    numbers = torch.Generator().manual_seed(1)
    weight = torch.randn(CLASSES, CHANNELS, generator=numbers) + 0.3
    feature = torch.rand(3, CHANNELS, 4, 6, generator=numbers)
    truth = torch.randint(0, 3, (3, 4, 6), generator=numbers)
    truth[0, 0] = 255
    return weight, feature, truth


def cosine(a, b):
    a, b = a.double().tolist(), b.double().tolist()
    length = math.sqrt(sum(x * x for x in a)) * math.sqrt(sum(y * y for y in b))
    return sum(x * y for x, y in zip(a, b, strict=True)) / length


def pixels(feature, members):
    """The features of the pixels (b, y, x) for which `members` is true."""
    return [feature[b, :, y, x] for b in range(3) for y in range(4) for x in range(6) if members(b, y, x)]


def loop_seeds(weight, feature, bkg_scale):
    """(b, y, x) -> channel of the strongest normalised CAM of the image's own classes, the background first."""
    found = {}
    for b in range(3):
        maps = {}
        for c in range(CLASSES):
            logits = [[max(0.0, float(weight[c] @ feature[b, :, y, x])) for x in range(6)] for y in range(4)]
            peak = max(map(max, logits)) + 1e-5
            maps[c] = [[float(LABELS[b, c]) * value / peak for value in row] for row in logits]
        for y in range(4):
            for x in range(6):
                foreground = [maps[c][y][x] for c in range(CLASSES)]
                channels = [bkg_scale * (1 - max(foreground)), *foreground]
                best = channels.index(max(channels))
                found[b, y, x] = best if best == 0 or LABELS[b, best - 1] else None
    return found


@pytest.mark.parametrize("use_masks", [True, False])
def test_equals_loops_over_pixels(use_masks):
    weight, feature, truth = inputs()
    sums = FeatureSums(weight, bkg_scale=0.8)
    for rows in (slice(0, 1), slice(1, 3)):
        seeds = sums.seeds(feature[rows], LABELS[rows])
        regions = torch.stack([region_map(label, 1 + CLASSES) for label in truth[rows]])
        sums.add(feature[rows], seeds, regions if use_masks else seeds)
    found = sums.result()

    expected_seeds = loop_seeds(weight, feature, 0.8)
    assert set(expected_seeds.values()) == {0, 1, 2}  # every case is there, and class 2 never
    prototypes = []
    for c in range(CLASSES):
        members = pixels(feature, lambda *at, c=c: expected_seeds[at] == c + 1)
        prototypes.append(sum(members) / len(members) if members else None)
    for k in range(1 + CLASSES):
        region = pixels(feature, lambda *at, k=k: (truth[at].item() if use_masks else expected_seeds[at]) == k)
        assert found.pixels[k] == len(region)
        for c in range(CLASSES):
            for matrix, vector in ((found.weight_on_pixels, weight[c]), (found.prototype_on_pixels, prototypes[c])):
                if not region or vector is None:
                    assert matrix[k, c].isnan()
                    continue
                mean = sum(cosine(pixel, vector) for pixel in region) / len(region)
                assert matrix[k, c].item() == pytest.approx(mean, abs=1e-6)
    for k, c in ((0, 0), (0, 1), (1, 0), (1, 2)):
        assert found.weight_and_prototype[k, c].item() == pytest.approx(cosine(prototypes[k], weight[c]), abs=1e-6)
    assert found.weight_and_prototype[2].isnan().all()
    assert (found.prototype_on_pixels[:, :2][found.pixels > 0] >= 0).all()


def test_head_and_tail_are_the_ends_of_the_counts():
    order = head_to_tail([5, 90, 5, 30, 70])
    assert order == [1, 4, 3, 0, 2]
    assert ends(order, 0.4) == ([1, 4], [0, 2])
    assert ends(order, 0.1) == ([1], [2])
    assert ends([0], 0.5) == ([0], [0])


def test_the_four_cases_of_eq_13_to_16():
    matrix = np.array([[9.0, 9, 9], [1, 2, 3], [4, 5, 6], [7, 8, np.nan]])  # background, then the pixels of 0, 1, 2
    found = activations(matrix, head=[0], tail=[1, 2])
    assert found == {
        "head_on_head": 1.0,  # pixels of 0, weight of 0
        "tail_on_tail": 5.0,  # 5, and one that is not known
        "head_on_tail": (4 + 7) / 2,  # A_T W_H: pixels of 1 and 2, weight of 0
        "tail_on_head": (2 + 3) / 2,  # A_H W_T
    }
    assert end_means(np.array([1.0, 2.0, np.nan]), [0], [1, 2]) == {"head": 1.0, "tail": 2.0}


def rows(path):
    return list(csv.DictReader(path.open()))


def test_tables_run_from_head_to_tail(tmp_path):
    matrix = torch.arange(6.0).view(3, 2) / 10
    matrix[1, 0] = math.nan
    found = SharedFeatures(matrix, matrix + 1, matrix[1:], torch.ones(3))
    write_cosines(tmp_path / "cosines.csv", found, ("ant", "bee"), order=[1, 0])
    written = rows(tmp_path / "cosines.csv")
    assert [row["kind"] for row in written] == [KINDS[0]] * 5 + [KINDS[1]] * 5 + [KINDS[2]] * 3
    assert [(row["of"], row["class"], row["cosine"][:3]) for row in written[:5]] == [
        ("background", "bee", "0.1"),
        ("background", "ant", "0.0"),
        ("bee", "bee", "0.5"),
        ("bee", "ant", "0.4"),
        ("ant", "bee", "0.3"),
    ]
    assert [(row["of"], row["class"]) for row in written[-3:]] == [("bee", "bee"), ("bee", "ant"), ("ant", "bee")]

    confusion = Confusion(3)
    confusion.matrix[:] = [[5, 1, 0], [2, 2, 0], [0, 0, 0]]  # ant: union 5, one too many, two too few
    confusions = {"classifier": Confusion(3), "prototype": Confusion(3), "sum": confusion}
    write_per_class(tmp_path / "measured.csv", "cam", [Measured("train", "sum", confusions)], ("ant", "bee"))
    rates = read_rates(tmp_path / "measured.csv", "train", ("ant", "bee"))
    assert list(rates) == ["classifier", "sum"]  # before calibration and after it
    assert read_rates(tmp_path / "measured.csv", "val", ("ant", "bee")) == {}
    with pytest.raises(UserError, match="not what evaluate@cam writes of these classes"):
        read_rates(tmp_path / "measured.csv", "train", ("ant", "cow"))
    with pytest.raises(UserError, match="run the stage evaluate@cam first"):
        read_rates(tmp_path / "none.csv", "train", ("ant", "bee"))
    write_rates(tmp_path / "rates.csv", "train", {"sum": rates["sum"]}, ("ant", "bee"), order=[1, 0])
    bee, ant = rows(tmp_path / "rates.csv")
    assert (ant["class"], ant["product"], ant["split"]) == ("ant", "sum CAM", "train")
    assert (float(ant["false_positive_rate"]), float(ant["false_negative_rate"])) == (20.0, 40.0)
    assert bee["false_positive_rate"] == ""
