"""Paths, affinities and the pair loss against loops over single pixels in float64."""

import math

import numpy as np
import pytest
import torch

from sfc.errors import UserError
from sfc.irn import pair_loss as pair_loss_module
from sfc.irn.pair_loss import PairLabels, pair_loss
from sfc.irn.pair_paths import _recipes, flat_paths, offsets, pair_affinities, path


def points_by_distance(dy, dx):
    """Integer points of the box of (0, 0) and (dy, dx) closer than 1 to the segment."""
    length = math.hypot(dy, dx)
    found = []
    for y in range(dy + 1):
        for x in range(min(dx, 0), max(dx, 0) + 1):
            along = (y * dy + x * dx) / length
            nearest = np.array([dy, dx]) * min(max(along, 0), length) / length
            if math.dist((y, x), nearest) < 1 - 1e-9:
                found.append((y, x))
    return found


def affinity_by_loops(edge, offset, y, x):
    """1 - the largest edge on the path from (y, x), as a tensor; None if the partner is outside."""
    height, width = edge.shape
    dy, dx = offset
    if not (0 <= y + dy < height and 0 <= x + dx < width):
        return None
    return 1 - torch.stack([edge[y + py, x + px] for py, px in points_by_distance(dy, dx)]).max()


def loss_by_loops(edge, labels, radius):
    """(positive, negative) as the equations read, one pair after another."""
    terms = {"background": [], "foreground": [], "negative": []}
    height, width = labels.shape[1:]
    for image, label in zip(edge, labels.tolist(), strict=True):
        for y in range(height - radius + 1):
            for x in range(radius - 1, width - radius + 1):
                for dy, dx in offsets(radius):
                    source, partner = label[y][x], label[y + dy][x + dx]
                    if 255 in (source, partner):
                        continue
                    affinity = affinity_by_loops(image, (dy, dx), y, x)
                    if source != partner:
                        terms["negative"].append(-torch.log(1 + 1e-5 - affinity))
                    else:
                        terms["foreground" if source else "background"].append(-torch.log(affinity + 1e-5))
    mean = {k: torch.stack(v).mean() if v else torch.zeros((), dtype=edge.dtype) for k, v in terms.items()}
    return (mean["background"] + mean["foreground"]) / 2, mean["negative"]


def random_maps(height, width, batch=2, seed=0):
    rng = np.random.default_rng(seed)
    blocks = rng.choice([0, 1, 2, 255], size=(batch, height // 3 + 1, width // 3 + 1), p=[0.4, 0.25, 0.2, 0.15])
    labels = np.kron(blocks, np.ones((3, 3), int))[:, :height, :width].astype(np.uint8)
    return torch.tensor(rng.random((batch, height, width))), torch.tensor(labels)


@pytest.mark.parametrize(("radius", "count", "points"), [(2, 4, 12), (5, 34, 242), (10, 152, 2134)])
def test_offsets_and_paths(radius, count, points):
    assert len(set(offsets(radius))) == count == len(offsets(radius))
    assert sum(len(path(offset)) for offset in offsets(radius)) == points
    for dy, dx in offsets(radius):
        assert 0 < math.hypot(dy, dx) < radius
        assert dy > 0 or (dy == 0 and dx > 0)
        assert sorted(path((dy, dx))) == sorted(points_by_distance(dy, dx))


@pytest.mark.parametrize("radius", [1, 2, 3, 6, 10])
def test_recipes_cover_each_path_and_nothing_else(radius):
    known = [{(0, 0)}]
    for offset, recipe in zip(offsets(radius), _recipes(radius), strict=True):
        covered = {(y + dy, x + dx) for source, (dy, dx) in recipe for y, x in known[source]}
        assert covered == path(offset)
        known.append(covered)


def test_recipes_read_few_maps():
    assert sum(map(len, _recipes(10))) < 2134 / 6


@pytest.mark.parametrize(("height", "width", "radius"), [(7, 9, 3), (6, 5, 5), (1, 8, 4), (8, 1, 4), (1, 1, 3)])
def test_affinities_are_one_minus_the_largest_edge(height, width, radius):
    edge, _ = random_maps(height, width)
    affinities = pair_affinities(edge, radius)
    assert affinities.shape == (2, len(offsets(radius)), height, width)
    for b, k, y, x in np.ndindex(*affinities.shape):
        expected = affinity_by_loops(edge[b], offsets(radius)[k], y, x)
        assert affinities[b, k, y, x] == (0 if expected is None else expected)


@pytest.mark.parametrize(("height", "width", "radius"), [(9, 12, 3), (10, 15, 5), (4, 7, 4)])
def test_loss_and_gradient_against_loops(height, width, radius, monkeypatch):
    edge, labels = random_maps(height, width, batch=3)
    edge.requires_grad_()
    positive, negative = loss_by_loops(edge, labels, radius)
    (expected,) = torch.autograd.grad((positive + negative) / 2, edge)
    for pixels in (1, 1 << 18):  # image by image, all at once
        monkeypatch.setattr(pair_loss_module, "_CHUNK_PIXELS", pixels)
        loss = pair_loss(edge, labels, radius)
        torch.testing.assert_close(loss.positive, positive.detach())
        torch.testing.assert_close(loss.negative, negative.detach())
        torch.testing.assert_close(loss.loss, ((positive + negative) / 2).detach(), check_dtype=True)
        (gradient,) = torch.autograd.grad(3 * loss.loss, edge)
        torch.testing.assert_close(gradient, 3 * expected)
    assert not loss.positive.requires_grad


@pytest.mark.parametrize("value", [0, 1, 255])
def test_a_kind_without_pairs_counts_nothing(value):
    edge, labels = random_maps(9, 9)
    labels = torch.full_like(labels, value)
    positive, negative = loss_by_loops(edge, labels, 3)
    loss = pair_loss(edge.requires_grad_(), labels, 3)
    torch.testing.assert_close(loss.positive, positive.detach())
    assert loss.negative == negative == 0
    loss.loss.backward()
    assert edge.grad.isfinite().all()
    assert bool(edge.grad.any()) == (value != 255)


def test_edges_of_zero_and_one_keep_the_loss_finite():
    _, labels = random_maps(9, 9)
    for value in (0.0, 1.0):
        edge = torch.full(labels.shape, value, requires_grad=True)
        loss = pair_loss(edge, labels, 3)
        loss.loss.backward()
        assert loss.loss.isfinite()
        assert edge.grad.isfinite().all()


def test_average_over_processes_is_the_loss_of_the_whole_batch(monkeypatch):
    edge, labels = random_maps(9, 12, batch=4)
    edge.requires_grad_()
    whole = pair_loss(edge, labels, 4)
    (expected,) = torch.autograd.grad(whole.loss, edge)
    counts = PairLabels(labels, 4).counts(flat_paths(4, 12))
    monkeypatch.setattr(pair_loss_module, "global_mean", lambda total, _: total * 2 / counts)
    shares = [pair_loss(edge[rows], labels[rows], 4) for rows in (slice(0, 1), slice(1, 4))]
    for name in ("loss", "positive", "negative"):
        torch.testing.assert_close(sum(getattr(share, name) for share in shares) / 2, getattr(whole, name))
    (gradient,) = torch.autograd.grad(sum(share.loss for share in shares) / 2, edge)
    torch.testing.assert_close(gradient, expected)


def test_too_small_a_crop_is_refused():
    with pytest.raises(UserError, match=r"irn\.crop: its label map of 12x18 .* irn\.radius 10; take a crop above 72"):
        pair_loss(torch.zeros(1, 12, 18), torch.zeros(1, 12, 18, dtype=torch.uint8), 10)
    pair_loss(torch.zeros(1, 10, 19), torch.zeros(1, 10, 19, dtype=torch.uint8), 10)
