"""The random walk against powers of the dense transition matrix, made by loops in float64."""

import math

import numpy as np
import pytest
import torch

from sfc.irn.pair_paths import path
from sfc.walk.random_walk import _chebyshev_weights, random_walk


def dense_transition(edge, radius, beta):
    """Column-normalised (HW, HW) float64 matrix of affinity^beta, 1 on the diagonal."""
    height, width = edge.shape
    affinity = np.eye(height * width)
    for y, x in np.ndindex(height, width):
        for v, u in np.ndindex(height, width):
            dy, dx = v - y, u - x
            if (dy, dx) > (0, 0) and dy * dy + dx * dx < radius * radius:
                largest = max(edge[y + py, x + px] for py, px in path((dy, dx)))
                i, j = y * width + x, v * width + u
                affinity[i, j] = affinity[j, i] = (1 - largest) ** beta
    return affinity / affinity.sum(axis=0)


def dense_walk(maps, edge, *, radius, beta, steps):
    power = np.linalg.matrix_power(dense_transition(edge, radius, beta), steps)
    return ((maps * (1 - edge)).reshape(len(maps), -1) @ power).reshape(maps.shape)


def random_inputs(batch, channels, height, width, seed=0):
    rng = np.random.default_rng(seed)
    return rng.random((batch, channels, height, width)), rng.random((batch, height, width)) ** 3


@pytest.mark.parametrize(
    ("height", "width", "radius", "beta", "steps"),
    [
        (7, 9, 3, 10.0, 256),
        (6, 11, 5, 2.5, 7),
        (9, 4, 5, 10.0, 1),
        (5, 5, 4, 1.0, 2),
        (1, 12, 5, 10.0, 256),
        (12, 1, 3, 10.0, 64),
        (1, 1, 5, 10.0, 256),
    ],
)
def test_equals_the_dense_matrix_power(height, width, radius, beta, steps):
    maps, edge = random_inputs(2, 3, height, width)
    walked = random_walk(torch.tensor(maps).float(), torch.tensor(edge).float(), radius=radius, beta=beta, steps=steps)
    assert walked.dtype == torch.float32
    for found, m, e in zip(walked, np.float32(maps), np.float32(edge), strict=True):
        expected = dense_walk(m.astype(float), e.astype(float), radius=radius, beta=beta, steps=steps)
        np.testing.assert_allclose(found, expected, rtol=2e-6, atol=1e-8)


def test_a_wall_is_not_crossed_and_a_field_without_edges_becomes_even():
    edge = torch.zeros(1, 8, 9)
    edge[:, :, 4] = 1
    maps = torch.zeros(1, 1, 8, 9)
    maps[..., :4] = torch.rand(8, 4)
    walked = random_walk(maps, edge, radius=3, beta=10, steps=4096)[0, 0]
    assert walked[:, 4:].abs().max() < 1e-5
    left = walked[:, :4]
    assert left.std() / left.mean() < 1e-3


def test_what_is_even_stays_even():
    walked = random_walk(torch.full((1, 2, 6, 7), 0.25), torch.zeros(1, 6, 7), radius=5, beta=10, steps=256)
    torch.testing.assert_close(walked, torch.full((1, 2, 6, 7), 0.25))


@pytest.mark.parametrize("steps", [0, 1, 5, 256])
def test_chebyshev_weights_make_the_power(steps):
    weights = _chebyshev_weights(steps)
    assert len(weights) <= min(steps + 1, 100)
    for z in np.linspace(-1, 1, 41):
        series = sum(weight * math.cos(k * math.acos(z)) for k, weight in enumerate(weights))
        assert series == pytest.approx(z**steps, abs=2e-8)
