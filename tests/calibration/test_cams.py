"""CAMs against loops over the equations, in float64."""

import math

import numpy as np
import pytest
import torch

from sfc.calibration import cams


def random(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def loop_normalised(logits):
    cam = np.maximum(logits.double().numpy(), 0)
    for b in range(cam.shape[0]):
        for c in range(cam.shape[1]):
            cam[b, c] /= cam[b, c].max() + 1e-5
    return cam


def loop_pcm(cam, feature, iters):
    cam, feature = cam.double().numpy(), feature.double().numpy()
    batch, channels, height, width = cam.shape
    out = np.zeros_like(cam)
    for b in range(batch):
        pixels = [feature[b, :, y, x] for y in range(height) for x in range(width)]
        pixels = [p / (math.sqrt((p * p).sum()) + 1e-5) for p in pixels]
        similar = np.array([[max(0.0, float(p @ q)) for q in pixels] for p in pixels])
        for column in range(len(pixels)):
            similar[:, column] /= similar[:, column].sum() + 1e-5
        for k in range(channels):
            row = cam[b, k].ravel()
            for _ in range(iters):
                row = np.array([sum(row[i] * similar[i, j] for i in range(len(row))) for j in range(len(row))])
            out[b, k] = row.reshape(height, width)
    return out


def test_normalised_cam_and_background():
    logits = random(2, 3, 4, 5) - 0.4
    expected = loop_normalised(logits)
    cam = cams.prepend_background(cams.normalised_cam(logits))
    np.testing.assert_allclose(cam[:, 1:], expected, atol=1e-6)
    np.testing.assert_allclose(cam[:, 0], 1 - expected.max(axis=1), atol=1e-6)


def test_a_class_without_activation_stays_zero():
    assert cams.normalised_cam(-random(1, 2, 3, 3)).abs().max() == 0


@pytest.mark.parametrize("iters", [1, 2, 3])
def test_pixel_correlation(iters):
    cam, feature = random(2, 3, 3, 4), random(2, 6, 3, 4, seed=1) - 0.5
    np.testing.assert_allclose(
        cams.pixel_correlation(cam, feature, iters=iters), loop_pcm(cam, feature, iters), rtol=1e-5, atol=1e-7
    )


@pytest.mark.parametrize("entries", [1, 60, 200])  # a column at a time; two and a half; all at once but for some
def test_pixel_correlation_in_parts(entries, monkeypatch):
    cam, feature = random(2, 3, 3, 4), random(2, 6, 3, 4, seed=1) - 0.5
    whole = cams.pixel_correlation(cam, feature, iters=2)
    sizes = []
    affinity = cams._affinity
    monkeypatch.setattr(cams, "_AFFINITY_ENTRIES", 2 * 12**2 - 1)
    monkeypatch.setattr(cams, "_PART_ENTRIES", entries)
    monkeypatch.setattr(cams, "_affinity", lambda f, part: sizes.append(part.shape[2]) or affinity(f, part))
    np.testing.assert_allclose(cams.pixel_correlation(cam, feature, iters=2), whole, rtol=1e-5, atol=1e-7)
    assert sizes == {1: [1] * 12, 60: [2] * 6, 200: [8, 4]}[entries] * 2


def test_pixel_correlation_stays_in_float32_under_autocast():
    cam, feature = random(1, 2, 4, 4), random(1, 8, 4, 4)
    plain = cams.pixel_correlation(cam, feature, iters=2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(cams.pixel_correlation(cam, feature, iters=2), plain)


def test_pixel_correlation_gradient():
    cam, feature = random(1, 2, 2, 3).double().requires_grad_(), random(1, 4, 2, 3).double().requires_grad_()
    # the function computes in float32: coarse steps and tolerances
    assert torch.autograd.gradcheck(
        lambda c, f: cams.pixel_correlation(c, f, iters=2).double(), (cam, feature), eps=1e-2, atol=1e-2, rtol=1e-2
    )


def test_prototype_cam_is_the_rectified_cosine_with_the_masked_mean():
    feature, seeds = random(2, 5, 3, 4) - 0.5, (random(2, 3, 3, 4, seed=2) > 0.6).float()
    seeds[1, 2] = 0
    actual = cams.prototype_cam(feature, seeds).double().numpy()
    f, s = feature.double().numpy(), seeds.double().numpy()
    for b in range(2):
        for k in range(3):
            chosen = [(y, x) for y in range(3) for x in range(4) if s[b, k, y, x]]
            prototype = sum((f[b, :, y, x] for y, x in chosen), np.zeros(5)) / max(len(chosen), 1)
            for y in range(3):
                for x in range(4):
                    pixel = f[b, :, y, x]
                    norms = np.linalg.norm(prototype) * np.linalg.norm(pixel)
                    cosine = prototype @ pixel / norms if norms else 0.0
                    assert actual[b, k, y, x] == pytest.approx(max(cosine, 0.0), abs=1e-6)


@pytest.mark.parametrize(("crop", "size"), [(32, 2), (64, 4), (48, 3), (50, 4)])
def test_valid_mask_equals_nearest_resizing_of_the_full_mask(crop, size):
    boxes = torch.tensor([[0, 0, crop, crop], [3, 17, crop - 5, crop - 1], [16, 0, 32, 20]])
    labels = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    full = torch.zeros(3, 3, crop, crop)
    for b, (top, left, bottom, right) in enumerate(boxes.tolist()):
        full[b, 0, top:bottom, left:right] = 1
        for c in range(2):
            full[b, 1 + c, top:bottom, left:right] = labels[b, c]
    expected = torch.nn.functional.interpolate(full, size=(size, size), mode="nearest")
    assert torch.equal(cams.valid_mask(boxes, labels, crop=(crop, crop), size=(size, size)), expected)
