from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from sfc.data.images import read_mask
from sfc.errors import UserError
from sfc.evaluation.bootstrap import Bootstrap
from sfc.evaluation.cam_rule import CamRule
from sfc.evaluation.confusion import Confusion, scores
from sfc.evaluation.tallies import CamTally, LabelTally
from sfc.label_archive import LabelArchive, LabelArchiveWriter

OFF = Bootstrap(0, 0.95, 0)
RULE = {"fg_gain": 2.0, "bg_offset": 0.4}
BOTH = RULE | {"weights": {"classifier": 1.0, "prototype": 0.7}}
CLASSIFIER, PROTOTYPE = RULE | {"weights": {"classifier": 1.0}}, RULE | {"weights": {"prototype": 1.0}}
THRESHOLDS = [0.0, 0.5, 0.7, 0.9]
SETS = {"many": [1], "few": [2, 3]}


def plain_maps(store, record, method, gains):
    """(foreground maps with maximum 1, maps after the background rule) of one method, from the equations.

    Args:
        gains: (of the classifier's foreground, of the prototype's).
    """
    total = 0
    for raw in store.read(record.id):
        size = (record.height, record.width)
        resized = F.interpolate(torch.from_numpy(raw).double(), size=size, mode="bilinear", align_corners=False)
        total = total + resized.numpy()
    normal = total / (total.max((2, 3), keepdims=True) + 1e-5)
    weights = {"classifier": (1, 0), "prototype": (0, 1), "sum": (1, 0.7)}[method]
    ruled = 0
    for weight, gain, cam in zip(weights, gains, normal, strict=True):
        background = weight * (cam[:1] + 0.4)
        ruled = ruled + np.concatenate([background, gain * weight * cam[1:]])
    if method == "sum":
        weights = np.multiply(weights, gains)
    foreground = weights[0] * normal[0, 1:] + weights[1] * normal[1, 1:]
    if method == "sum" and len(foreground):
        foreground = foreground / (foreground.max((1, 2), keepdims=True) + 1e-5)
    return foreground, ruled


@pytest.mark.parametrize("method", ["classifier", "prototype", "sum"])
@pytest.mark.parametrize("gain", [2.0, {"classifier": 2.5, "prototype": 0.8}])
def test_cam_tally_equals_the_rule_and_sweep_written_out(tiny, method, gain):
    store, gains = tiny.store(), (2.0, 2.0) if gain == 2.0 else tuple(gain.values())
    tally = CamTally(CamRule(store, **BOTH | {"fg_gain": gain}), 4, THRESHOLDS)
    fixed, swept = Confusion(4), [Confusion(4) for _ in THRESHOLDS]
    for record in tiny.records:
        tally.add(record)
        truth, keys = read_mask(record.mask), np.array([0, *(label + 1 for label in record.labels)], np.uint8)
        foreground, ruled = plain_maps(store, record, method, gains)
        fixed.add(record.id, truth, keys[ruled.argmax(0)])
        for threshold, confusion in zip(THRESHOLDS, swept, strict=True):
            background = np.full((1, *truth.shape), threshold)
            confusion.add(record.id, truth, keys[np.concatenate([background, foreground]).argmax(0)])
    assert tally.confusions[method].matrix.tolist() == fixed.matrix.tolist()
    found = tally.metrics(SETS, OFF)[method]
    mious = [scores(confusion.matrix).miou for confusion in swept]
    assert len(set(mious)) == len(mious)
    assert found["oracle"] == {
        "threshold": THRESHOLDS[int(np.argmax(mious))],
        "miou": pytest.approx(100 * max(mious), rel=1e-12),
    }
    expected = scores(fixed.matrix)
    assert found["miou"] == pytest.approx(100 * expected.miou)
    assert found["miou_many"] == pytest.approx(100 * expected.iou[1])
    assert found["miou_few"] == pytest.approx(50 * (expected.iou[2] + expected.iou[3]))
    assert found["pixel_accuracy"] == pytest.approx(100 * expected.pixel_accuracy)
    assert found["false_positive_rate"] == pytest.approx(100 * expected.false_positive_rate[1:].mean())
    assert found["false_negative_rate"] == pytest.approx(100 * expected.false_negative_rate[1:].mean())


def test_the_sum_stands_for_the_product(tiny):
    tally = CamTally(CamRule(tiny.store(), **BOTH), 4, THRESHOLDS)
    assert tally.rule.maps == ("classifier", "prototype", "sum")
    assert (tally.stands_for, tally.main) == ("sum", tally.confusions["sum"])
    assert (
        "sum (1 x classifier + 0.7 x prototype; foreground x 2 and 2, background + 0.4) stands for the method"
        in tally.protocol("train")
    )


def test_the_protocol_names_the_images_the_oracle_is_chosen_on(tiny):
    tally = CamTally(CamRule(tiny.store(), **BOTH), 4, THRESHOLDS)
    for record in tiny.records[:3]:
        tally.add(record)
    assert tally.protocol("train").endswith("best constant background, chosen on these 3 images of train")


def test_every_miou_has_an_interval_but_those_of_class_sets_and_oracle(tiny):
    tally = CamTally(CamRule(tiny.store(), **BOTH), 4, THRESHOLDS)
    for record in tiny.records:
        tally.add(record)
    bootstrap = Bootstrap(50, 0.9, 3)
    metrics = tally.metrics(SETS, bootstrap)
    for method in tally.rule.maps:
        found = metrics[method]
        expected = bootstrap.interval(tally.confusions[method].per_image)
        assert (found["miou_low"], found["miou_high"]) == tuple(100 * limit for limit in expected)
        assert found["miou_low"] < found["miou"] < found["miou_high"]
        without = tally.metrics(SETS, OFF)[method]
        assert found.keys() - without.keys() == {"miou_low", "miou_high"}
        assert set(found["oracle"]) == {"threshold", "miou"}


def test_weights_must_be_of_the_kinds_that_stand_for_the_method(tiny):
    with pytest.raises(UserError, match="weights of prototype, but the CAMs that stand for the method are classifier"):
        CamRule(tiny.store(), **PROTOTYPE)


@pytest.mark.parametrize("gains", [{"classifier": 1.0, "prototype": 0.1, "texture": 1.0}, {"prototype": 0.1}])
def test_gains_must_be_of_the_kinds_that_there_are(tiny, gains):
    said = f"fg_gain of {', '.join(gains)}, but the CAMs are classifier, prototype; name these"
    with pytest.raises(UserError, match=said):
        CamRule(tiny.store(), **BOTH | {"fg_gain": gains})


def test_the_protocol_names_gains_that_differ(tiny):
    tally = CamTally(CamRule(tiny.store(), **BOTH | {"fg_gain": {"classifier": 1.0, "prototype": 0.1}}), 4, THRESHOLDS)
    said = "sum (1 x classifier + 0.7 x prototype; foreground x 1 and 0.1, background + 0.4) stands for"
    assert said in tally.protocol("train")


def test_a_store_of_one_kind_reports_that_kind_alone(tiny):
    tally = CamTally(CamRule(tiny.store(("classifier",)), **CLASSIFIER), 4, THRESHOLDS)
    for record in tiny.records:
        tally.add(record)
    assert set(tally.metrics({}, OFF)) == {"classes_absent", "baseline_all_background", "classifier"}
    assert tally.main is tally.confusions["classifier"]
    assert tally.main.matrix.any()


def test_one_of_two_kinds_may_stand_for_the_method(tiny):
    rule = CamRule(tiny.store(fused=("prototype",)), **PROTOTYPE)
    tally = CamTally(rule, 4, THRESHOLDS)
    for record in tiny.records:
        tally.add(record)
    assert rule.maps == ("classifier", "prototype")  # their sum means nothing for such a method
    assert tally.main is tally.confusions["prototype"]
    assert "prototype (1 x prototype; foreground x 2, background + 0.4) stands for the method" in tally.protocol(
        "train"
    )
    assert tally.confusions["prototype"].matrix.tolist() != tally.confusions["classifier"].matrix.tolist()


def test_cams_of_other_labels_are_refused(tiny):
    tally = CamTally(CamRule(tiny.store(), **BOTH), 4, THRESHOLDS)
    with pytest.raises(UserError, match="train1 has 2 class maps but 1 labels"):
        tally.add(replace(tiny.records[1], labels=(0,)))


def test_label_tally(tiny):
    path, truth = tiny.folder / "labels.zip", read_mask(tiny.records[0].mask)
    half = truth.copy()
    half[: len(half) // 2] = 255
    with LabelArchiveWriter(path) as archive:
        archive.write("train0", half)
    tally = LabelTally(LabelArchive(path), 4)
    tally.add(tiny.records[0])
    found = tally.metrics(SETS, Bootstrap(10, 0.95, 0))
    known, ants = truth != 255, truth == 1
    lost = known & (half == 255)
    assert found["undecided"] == pytest.approx(100 * lost.sum() / known.sum())
    assert found["pixel_accuracy"] == pytest.approx(100 - 100 * (lost & ants).sum() / known.sum())
    assert found["miou_many"] == pytest.approx(100 - 100 * (lost & ants).sum() / ants.sum())
    assert np.isnan(found["miou_few"])
    assert found["miou_low"] == pytest.approx(found["miou"]) == pytest.approx(found["miou_high"])  # a single image
    assert "the run chooses nothing on masks" in tally.protocol("train")
    assert found["classes_absent"] == 2
    assert found["baseline_all_background"] == pytest.approx(50 * (truth == 0).sum() / known.sum())
