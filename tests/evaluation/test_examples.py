import io
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from sfc.data.images import IGNORE, read_mask
from sfc.evaluation.cam_rule import CamRule
from sfc.evaluation.confusion import Confusion
from sfc.evaluation.drawing import label_colours
from sfc.evaluation.examples import (
    SIDE,
    Layer,
    cam_layers,
    choose_worst,
    image_ious,
    label_layers,
    write_examples,
)
from sfc.example_archive import ExampleArchive
from sfc.label_archive import LabelArchive, LabelArchiveWriter

BOTH = {"fg_gain": 2.0, "bg_offset": 0.4, "weights": {"classifier": 1.0, "prototype": 1.0}}
FACTS = {"product": "crf", "split": "train", "meaning": "labels", "images": 5}
K = 4


def counted(truths, predictions):
    confusion = Confusion(K)
    for id, truth in truths.items():
        confusion.add(id, truth, predictions[id])
    return confusion.per_image


def slow_ious(truth, prediction):
    """Pixel by pixel."""
    found = []
    for k in range(K):
        right = union = shown = 0
        for t, p in zip(truth.ravel(), prediction.ravel(), strict=True):
            p = 0 if p == IGNORE else p
            if t != IGNORE:
                right += t == p == k
                union += k in (t, p)
                shown += t == k
        found.append(right / union if shown else np.nan)
    return found


def test_ious_of_an_image_count_pixels():
    rng = np.random.default_rng(0)
    for values in ([0, 1, 2, 3, 255], [0, 2], [1, 3], [0]):
        truth = rng.choice(np.array(values, np.uint8), (7, 9))
        prediction = rng.choice(np.array([0, 1, 2, 3, 255], np.uint8), (7, 9))
        counts = counted({"a": truth}, {"a": prediction})["a"]
        np.testing.assert_allclose(image_ious(counts), slow_ious(truth, prediction))


def image(shares, right):
    """(3, K) counts of an image with this many pixels of each class, of which a share is right, the rest background."""
    truth = np.array(shares)
    hits = (truth * right).astype(int)
    hits[0] = truth[0]
    predicted = hits.copy()
    predicted[0] += (truth - hits).sum()
    return np.stack((hits, truth, predicted)).astype(np.int32)


def test_the_worst_of_every_class_in_turn_the_rarest_first():
    per_image = {f"car{i}": image([90, 10, 0, 0], right=i / 10) for i in range(8)}
    per_image |= {f"bus{i}": image([50, 0, 50, 0], right=0.9 + i / 100) for i in range(3)}
    per_image["both"] = image([50, 25, 25, 0], right=0.5)
    per_image["empty"] = image([100, 0, 0, 0], right=1)
    per_image["unmeasured"] = np.zeros((3, K), np.int32)
    assert choose_worst(per_image, 5) == ["empty", "both", "car0", "bus0", "car1"]
    assert choose_worst(per_image, 0) == []
    assert Counter(choose_worst(per_image, 99)) == Counter(id for id in per_image if id != "unmeasured")
    assert choose_worst({}, 3) == []


def test_of_equals_the_earlier_id():
    per_image = {id: image([50, 50, 0, 0], right=0.5) for id in ("c", "a", "b")}
    assert choose_worst(per_image, 2) == ["a", "b"]


@pytest.fixture
def labels(tiny):
    """An archive of label maps of the tiny images: the masks with class 1 called 2, and a corner undecided."""
    predictions = {}
    with LabelArchiveWriter(tiny.folder / "crf.zip") as writer:
        for record in tiny.records:
            label = read_mask(record.mask).copy()
            label[(label == 1) | (label == IGNORE)] = 2
            label[:2, :2] = IGNORE
            predictions[record.id] = label
            writer.write(record.id, label)
    truths = {record.id: read_mask(record.mask) for record in tiny.records}
    return LabelArchive(tiny.folder / "crf.zip"), counted(truths, predictions), predictions


def written(tiny, records, per_image, layers, main="labels", fixed=(), name="examples.zip"):
    path = tiny.folder / name
    write_examples(path, FACTS, main, tiny.manifest.classes, records, fixed, per_image, layers)
    return ExampleArchive(path.read_bytes(), source=name)


def rgba(archive, picture):
    return np.asarray(Image.open(io.BytesIO(archive.read(picture["file"]))).convert("RGBA"))


def test_index_and_pictures_of_label_maps(tiny, labels):
    store, per_image, predictions = labels
    archive = written(tiny, tiny.records, per_image, lambda r: label_layers(store, r), fixed=["train1"])
    index = archive.index
    assert {**FACTS, "main": "labels"}.items() <= index.items()
    assert [label["name"] for label in index["labels"]] == ["background", "ant", "bee", "cat", "not measured"]
    assert index["ious"] == sorted(index["ious"])
    assert len(index["ious"]) == len(tiny.records)
    assert [example["fixed"] for example in index["examples"]] == [False, True, False, False, False]
    ranks = {example["id"]: example["rank"] for example in index["examples"]}
    assert sorted(ranks.values()) == [1, 2, 3, 4, 5]
    for record, example in zip(tiny.records, index["examples"], strict=True):
        truth, said = read_mask(record.mask), predictions[record.id]
        ious = slow_ious(truth, said)
        assert example["of_class"] == {str(k): pytest.approx(100 * ious[k], abs=0.01) for k in range(K) if k in truth}
        assert example["iou"] == pytest.approx(100 * np.nanmean(ious), abs=0.01)
        assert index["ious"][example["rank"] - 1] == example["iou"]
        assert example["shows"] == sorted({1, 2, 3} & set(np.unique(truth)))
        assert example["extra"] == sorted(({1, 2, 3} & set(np.unique(said))) - set(example["shows"]))
        pictures = {picture["kind"]: picture for picture in example["pictures"]}
        assert list(pictures) == ["image", "truth", "labels"]
        for kind, values in (("truth", truth), ("labels", said)):
            found = rgba(archive, pictures[kind])
            assert (found[..., 3] == np.where(values == 0, 0, 255)).all()
            assert (found[..., :3] == label_colours()[values])[values > 0].all()
        assert rgba(archive, pictures["image"]).shape[:2] == truth.shape


def test_cams_have_labels_of_each_map_and_activation_of_each_class(tiny):
    rule = CamRule(tiny.store(), **BOTH)
    archive = written(tiny, tiny.records[1:2], {}, lambda r: cam_layers(rule, r), main="sum")
    (example,) = archive.index["examples"]
    kinds = [(p["kind"], p["map"], p["label"]) for p in example["pictures"]]
    maps = ("classifier", "prototype", "sum")
    of_maps = [("labels", name, None) if k is None else ("heat", name, k) for name in maps for k in (None, 1, 3)]
    assert kinds == [("image", None, None), ("truth", None, None), *of_maps]
    assert len(archive.index["scale"]) == 5
    layers = {(layer.map, layer.label): layer.values for layer in cam_layers(rule, tiny.records[1])}
    assert all(heat.min() >= 0 and heat.max() <= 1 for (_, label), heat in layers.items() if label)


def test_without_masks_there_are_labels_alone(tiny, labels):
    records = [replace(record, mask=None) for record in tiny.records]
    archive = written(tiny, records, {}, lambda r: label_layers(labels[0], r))
    assert archive.index["ious"] == []
    for record, example in zip(records, archive.index["examples"], strict=True):
        assert (example["iou"], example["rank"], example["of_class"]) == (None, None, {})
        assert example["shows"] == [label + 1 for label in record.labels]
        assert [picture["kind"] for picture in example["pictures"]] == ["image", "labels"]


def test_large_images_become_small(tiny):
    image = tiny.folder / "large.png"
    Image.new("RGB", (3 * SIDE, 2 * SIDE)).save(image)
    record = replace(tiny.records[0], image=image, mask=None, height=2 * SIDE, width=3 * SIDE)
    layer = Layer("labels", None, np.full((2 * SIDE, 3 * SIDE), IGNORE, np.uint8))
    archive = written(tiny, [record], {}, lambda r: [layer])
    for picture in archive.index["examples"][0]["pictures"]:
        assert rgba(archive, picture).shape[:2] == (round(SIDE * 2 / 3), SIDE)


def test_equal_bytes_when_written_again(tiny, labels):
    store, per_image, _ = labels
    for name in ("a.zip", "b.zip"):
        written(tiny, tiny.records, per_image, lambda r: label_layers(store, r), name=name)
    assert (tiny.folder / "a.zip").read_bytes() == (tiny.folder / "b.zip").read_bytes()
