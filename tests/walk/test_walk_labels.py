"""The rules of SFC, SIPE and IRN against walks by the dense matrix, step by step; then over image files."""

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

from sfc.data.manifest import Record
from sfc.errors import UserError
from sfc.fusion import fuse, normalise_scales
from sfc.irn.network import IrnNetwork, save_irn
from sfc.localization.store import CamStore, CamWriter
from sfc.walk import walk_labels as walk_labels_module
from sfc.walk.pseudo_labels import IrnReader, refine_images
from sfc.walk.walk_labels import walk_labels
from tests.walk.test_random_walk import dense_walk

WALK = {"radius": 3, "beta": 8.0, "steps": 32}
SFC = {"foreground_power": 1.3, "background": 0.25, "whole_power": 1.69}
SIPE = {"foreground_power": None, "background": None, "whole_power": 1.5}
IRN = {"foreground_power": 1.0, "background": 0.25, "whole_power": None}
RULE = {**WALK, **SFC}
FUSION = {"weights": {"w": 1.0, "p": 0.3}, "fg_gain": 2.0, "bg_offset": 0.4}


def resized(maps, height, width):
    """Bilinear without corner alignment, by loops over the target's rows and columns; edges are repeated."""

    def weights(size, target):
        matrix = np.zeros((target, size))
        for i in range(target):
            place = max((i + 0.5) * size / target - 0.5, 0)
            low = min(int(place), size - 1)
            high = min(low + 1, size - 1)
            matrix[i, low] += 1 - (place - low)
            matrix[i, high] += place - low
        return matrix

    return weights(maps.shape[1], height) @ maps @ weights(maps.shape[2], width).T


def walked(maps, edge, seen, size):
    """Maps (C, h, w) float64 after the walk, at the image's size, with maximum 1."""
    h, w = edge.shape
    full = resized(dense_walk(maps, edge, **WALK), 4 * h, 4 * w)[:, : seen[0], : seen[1]]
    full = full if seen == size else resized(full, *size)
    return full / full.max()


def scores_of_sfc(cam, edge, seen):
    """(K', H, W) scores of one image in float64: a walk of all channels, and one of the classes beside a constant."""
    small, size = resized(cam, *edge.shape), cam.shape[1:]
    foreground = walked(small[1:] ** 1.3, edge, seen, size)
    return walked(small**1.69, edge, seen, size) + np.concatenate([np.full_like(foreground[:1], 0.25), foreground])


def scores_of_sipe(cam, edge, seen):
    """A walk of all channels alone."""
    return walked(resized(cam, *edge.shape) ** 1.5, edge, seen, cam.shape[1:])


def scores_of_irn(cam, edge, seen):
    """A walk of the classes alone, beside a constant."""
    foreground = walked(resized(cam, *edge.shape)[1:], edge, seen, cam.shape[1:])
    return np.concatenate([np.full_like(foreground[:1], 0.25), foreground])


@pytest.mark.parametrize(
    ("rule", "reference"),
    [(SFC, scores_of_sfc), (SIPE, scores_of_sipe), (IRN, scores_of_irn)],
    ids=["sfc", "sipe", "irn"],
)
@pytest.mark.parametrize(("size", "seen"), [((22, 30), (22, 30)), ((22, 30), (11, 15)), ((9, 11), (18, 22))])
def test_labels_follow_the_rule(size, seen, rule, reference):
    rng = np.random.default_rng(0)
    h, w = -(-seen[0] // 4), -(-seen[1] // 4)
    edge = rng.random((2, h, w)).astype(np.float32) ** 2
    cams = [resized(rng.random((k, 3, 4)), *size).astype(np.float32) for k in (3, 2)]
    if rule is IRN:  # else no class is below a quarter of its maximum anywhere, and the constant wins nowhere
        cams = [cam**6 for cam in cams]
    labels = walk_labels(list(map(torch.tensor, cams)), torch.tensor(edge), seen=seen, **WALK, **rule)
    winners = set()
    for label, cam, e in zip(labels, cams, edge, strict=True):
        scores = reference(cam.astype(float), e.astype(float), seen)
        best = np.sort(scores, axis=0)
        clear = best[-1] - best[-2] > 1e-5
        assert clear.mean() > 0.99
        np.testing.assert_array_equal(label.numpy()[clear], scores.argmax(axis=0)[clear])
        winners.update(label.unique().tolist())
    assert winners == {0, 1, 2}


@pytest.mark.parametrize(("rule", "channels"), [(SFC, 5), (SIPE, 3), (IRN, 2)], ids=["sfc", "sipe", "irn"])
def test_no_map_walks_that_no_rule_asks_for(monkeypatch, rule, channels):
    seen = []
    monkeypatch.setattr(walk_labels_module, "random_walk", lambda maps, *_, **__: seen.append(maps.shape[1]) or maps)
    walk_labels([torch.rand(3, 8, 8)], torch.zeros(1, 2, 2), seen=(8, 8), **WALK, **rule)
    assert seen == [channels]


def test_classes_without_activation_lose_to_the_background():
    cam = torch.zeros(3, 8, 8)
    cam[0] = 0.4
    (label,) = walk_labels([cam], torch.zeros(1, 2, 2), seen=(8, 8), **RULE)
    assert not label.any()


@pytest.fixture
def images(tmp_path):
    """Five images of two sizes, one of them without a class, and their raw CAMs."""
    rng = np.random.default_rng(0)
    (tmp_path / "cams").mkdir()
    sizes = [(40, 56), (33, 20), (40, 56), (1, 30), (40, 56)]
    labels = [(0,), (1, 4), (0, 1, 2), (3,), ()]
    records = []
    kinds, ids = ("w", "p"), [f"im{i}" for i in range(5)]
    writer = CamWriter(tmp_path / "cams", kinds=kinds, fused=kinds, scales=(1.0, 0.5), ids=ids)
    for i, (size, present) in enumerate(zip(sizes, labels, strict=True)):
        path = tmp_path / f"{i}.png"
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(path)
        records.append(Record(f"im{i}", "train", path, None, *size, present, "", "table"))
        maps = [rng.random((2, 1 + len(present), n, n + 1), dtype=np.float32) for n in (3, 2)]
        writer.write(f"im{i}", maps)
    writer.finish()
    return records, CamStore(tmp_path / "cams")


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "irn.safetensors"
    torch.manual_seed(0)
    save_irn(IrnNetwork(arch="resnet18"), path, params={})
    return path


def reader(network, **settings):
    settings = {"scale": 1.0, "flip": True, "precision": "fp32", "device": torch.device("cpu"), **settings}
    return IrnReader(network, **settings)


@pytest.mark.parametrize(("scale", "workers"), [(1.0, 0), (0.5, 2)])
def test_images_are_labelled_in_order(images, network, scale, workers):
    records, store = images
    batches = [[records[0], records[2], records[4]], [records[1]], [records[3]]]
    irn = reader(network, scale=scale)
    refined = list(refine_images(batches, store, irn, fusion=FUSION, rule=RULE, workers=workers))
    assert [id for id, _ in refined] == ["im0", "im2", "im4", "im1", "im3"]
    for id, label in refined:
        record = records[int(id[2:])]
        assert label.shape == (record.height, record.width)
        assert label.dtype == np.uint8
        if not record.labels:
            assert not label.any()
            continue
        edge, seen = irn([record])
        assert seen == (max(1, round(record.height * scale)), max(1, round(record.width * scale)))
        cam = fuse(normalise_scales(store.read(id), label.shape), ("w", "p"), **FUSION)
        (expected,) = walk_labels([cam], edge, seen=seen, **RULE)
        keys = np.array([0, *(i + 1 for i in record.labels)])
        assert (label == keys[expected.numpy()]).mean() > 0.99  # edges of a batch and of one image differ in rounding


def test_the_kind_that_stands_for_the_method_walks_alone(images, network):
    records, store = images
    store.fused = ("p",)
    fusion = {"weights": {"p": 1.0}, "fg_gain": 2.0, "bg_offset": 0.4}
    ((_, label),) = refine_images([[records[0]]], store, reader(network), fusion=fusion, rule=RULE, workers=0)
    edge, seen = reader(network)([records[0]])
    cam = fuse(normalise_scales(store.read("im0"), label.shape)[1:], ("p",), **fusion)
    (expected,) = walk_labels([cam], edge, seen=seen, **RULE)
    np.testing.assert_array_equal(label, expected.numpy())  # class 0 is label 1


def test_weights_of_other_kinds_are_refused_at_once(images, network):
    records, store = images
    store.fused = ("p",)
    with pytest.raises(UserError, match="weights of w, p, but the CAMs that stand for the method are p; name these"):
        refine_images([[records[0]]], store, reader(network), fusion=FUSION, rule=RULE, workers=0)


def test_cams_of_other_classes_are_refused(images, network):
    records, store = images
    other = dataclasses.replace(records[0], labels=(0, 1))
    with pytest.raises(UserError, match="im0 has 1 class maps but 2 labels in the manifest; run infer_cam again"):
        list(refine_images([[other]], store, reader(network), fusion=FUSION, rule=RULE, workers=0))


def test_bf16_edges_are_close(images, network):
    records, _ = images
    with torch.inference_mode():
        exact, _ = reader(network)([records[0]])
        close, _ = reader(network, precision="bf16")([records[0]])
    assert 0 < (exact - close).abs().max() < 0.05


def test_a_broken_image_stops_the_work_with_its_name(images, network):
    records, store = images
    records[1].image.write_bytes(b"no image")
    work = refine_images([[r] for r in records], store, reader(network), fusion=FUSION, rule=RULE, workers=0)
    with pytest.raises(UserError, match=r"1\.png: does not decode"):
        list(work)
