"""Structure-aware seeds against loops, in float64."""

import numpy as np
import torch

from sfc.calibration.sipe import structure_seeds


def loop_seeds(cam, feature, bkg_scale):
    batch, channels, _, width = cam.shape
    seeds = np.zeros(cam.shape)
    for b in range(batch):
        pixels = feature[b].reshape(feature.shape[1], -1).T
        pixels = [p / (np.linalg.norm(p) + 1e-5) for p in pixels]
        for i, pixel in enumerate(pixels):
            row = [max(0.0, pixel @ other) for other in pixels]
            likeness = []
            for k in range(channels):
                flat = cam[b, k].ravel()
                shared = sum(s * m for s, m in zip(row, flat, strict=True))
                likeness.append(shared / (sum(row) + flat.sum() - shared + 1e-5) * (bkg_scale if k == 0 else 1))
            seeds[b, int(np.argmax(likeness)), i // width, i % width] = 1
    return seeds


def test_structure_seeds_follow_the_soft_intersection_over_union():
    numbers = np.random.default_rng(0)
    for _ in range(5):
        cam, feature = numbers.random((2, 4, 3, 5)), numbers.standard_normal((2, 6, 3, 5))
        mask = torch.ones(2, 4, 1, 1)
        mask[1, 2] = 0
        expected = loop_seeds(cam, feature, 0.5) * mask.numpy()
        actual = structure_seeds(torch.tensor(cam), torch.tensor(feature), mask, bkg_scale=0.5)
        np.testing.assert_array_equal(actual.numpy(), expected)
