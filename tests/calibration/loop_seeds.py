"""Slow, obvious seeds for the tests."""

import numpy as np


def loop_structure_seeds(cam, feature, bkg_scale):
    """SIPE's seeds of (B, K, H, W) CAMs and (B, D, H, W) features, float64 arrays, as (B, K, H, W) of 0 and 1."""
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
