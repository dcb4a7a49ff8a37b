"""Dense CRF, loss on affinities and random walk."""

from __future__ import annotations

import torch
from torch import Tensor

from bench.inputs import regions, smooth, uniform
from bench.measure import Pair, Row
from sfc.data.images import IGNORE
from sfc.dense_crf import DenseCrf, label_energy
from sfc.irn.pair_loss import EPS, pair_loss
from sfc.irn.pair_paths import offsets, path
from sfc.walk.random_walk import random_walk

_VOC_CRF = {
    "gaussian_sxy": 3.0,
    "gaussian_compat": 3.0,
    "bilateral_sxy": 50.0,
    "bilateral_srgb": 5.0,
    "bilateral_compat": 10.0,
}


def dense_crf(device: torch.device, *, size: tuple[int, int], labels: int, iterations: int) -> Pair:
    """Marginals of two unaries on one image."""
    picture = smooth(1, 3, *size)[0] * 230 + uniform(3, *size) * 25
    image = picture.permute(1, 2, 0).to(torch.uint8).numpy()
    first, second = (label_energy(x.numpy(), labels, 0.7) for x in regions(2, labels, *size))

    def plain() -> tuple:
        return tuple(DenseCrf(image, labels, **_VOC_CRF).infer(energy, iterations) for energy in (first, second))

    def ours() -> tuple:
        crf = DenseCrf(image, labels, **_VOC_CRF)
        return tuple(crf.infer(energy, iterations) for energy in (first, second))

    return Pair(plain, ours)


def affinity_loss(device: torch.device, *, batch: int, classes: int, side: int, radius: int) -> Pair:
    """Loss and gradient; the plain form's index of all points of all paths is made once, outside the timing."""
    edge = uniform(batch, side, side).to(device).requires_grad_()
    labels = regions(batch, classes, side, side)
    labels[:, : side // 8] = IGNORE
    labels = labels.to(device)
    sources, groups = _path_index(side, radius, device)

    def plain() -> tuple:
        flat_edge, flat_labels = edge.flatten(1), labels.flatten(1)
        maxima = torch.cat([flat_edge[:, points].amax(dim=-1) for _, points in groups], dim=1)
        partner = torch.cat([flat_labels[:, partners] for partners, _ in groups], dim=1)
        source = flat_labels[:, sources][:, None]
        known = (source != IGNORE) & (partner != IGNORE)
        alike, unlike = known & (source == partner), known & (source != partner)
        near, far = -torch.log(1 - maxima + EPS), -torch.log(maxima + EPS)
        positive = (near[alike & (source == 0)].mean() + near[alike & (source != 0)].mean()) / 2
        loss = (positive + far[unlike].mean()) / 2
        return loss, *torch.autograd.grad(loss, edge)

    def ours() -> tuple:
        loss = pair_loss(edge, labels, radius).loss
        return loss, *torch.autograd.grad(loss, edge)

    return Pair(plain, ours)


def _path_index(side: int, radius: int, device: torch.device) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
    """Flat positions of all sources; for paths of each length, (P, N) partners and (P, N, points) of the path."""
    margin = radius - 1
    positions = torch.arange(side * side, device=device).view(side, side)
    sources = positions[: side - margin, margin : side - margin].flatten()
    by_length: dict[int, list[tuple[int, list[int]]]] = {}
    for dy, dx in offsets(radius):
        points = [y * side + x for y, x in sorted(path((dy, dx)))]
        by_length.setdefault(len(points), []).append((dy * side + dx, points))
    groups = []
    for found in by_length.values():
        partners = torch.tensor([shift for shift, _ in found], device=device)
        points = torch.tensor([shifts for _, shifts in found], device=device)
        groups.append((sources + partners[:, None], sources[:, None] + points[:, None]))
    return sources, groups


def walk(device: torch.device, *, channels: int, size: tuple[int, int], radius: int, steps: int) -> Pair:
    """Maps after a random walk; the plain form raises a dense float32 matrix to a power by squaring."""
    maps, edge = smooth(1, channels, *size).to(device), smooth(1, 1, *size, seed=1)[:, 0].to(device) ** 2
    beta, positions = 10.0, torch.arange(size[0] * size[1], device=device).view(size)

    def plain() -> tuple:
        flat = edge.flatten()
        matrix = torch.eye(len(flat), device=device)
        for dy, dx in offsets(radius):
            first, last = max(0, -dx), size[1] - max(0, dx)
            here = positions[: size[0] - dy, first:last].flatten()
            points = torch.tensor([y * size[1] + x for y, x in path((dy, dx))], device=device)
            affinity = (1 - flat[here[:, None] + points].amax(dim=1)) ** beta
            there = here + dy * size[1] + dx
            matrix[here, there] = matrix[there, here] = affinity
        matrix = torch.linalg.matrix_power(matrix / matrix.sum(dim=1, keepdim=True), steps)
        started = (maps[0] * (1 - edge)).flatten(1)
        return ((matrix @ started.T).T.reshape(maps.shape),)

    return Pair(plain, lambda: (random_walk(maps, edge, radius=radius, beta=beta, steps=steps),))


ROWS = (
    Row(
        "dense-crf",
        "two CRFs -> one pairwise lattice for both unaries",
        dense_crf,
        {
            "tiny": {"size": (24, 32), "labels": 3, "iterations": 2},
            "small": {"size": (240, 320), "labels": 3, "iterations": 10},
            "full": {"size": (375, 500), "labels": 3, "iterations": 10},
        },
        tolerance=0,
        cpu_only=True,
    ),
    Row(
        "affinity-loss",
        "gather every point of every path -> shifted slices; with gradient",
        affinity_loss,
        {
            "tiny": {"batch": 2, "classes": 3, "side": 16, "radius": 3},
            "small": {"batch": 4, "classes": 4, "side": 64, "radius": 10},
            "full": {"batch": 8, "classes": 4, "side": 128, "radius": 10},
        },
        tolerance=1e-3,
    ),
    Row(
        "random-walk",
        "power of the dense matrix -> sparse products",
        walk,
        {
            "tiny": {"channels": 2, "size": (8, 10), "radius": 3, "steps": 16},
            "small": {"channels": 5, "size": (24, 32), "radius": 5, "steps": 256},
            "full": {"channels": 5, "size": (48, 64), "radius": 5, "steps": 256},
        },
        tolerance=1e-3,
    ),
)
