"""The three loss terms against loops, in float64."""

import math

import pytest
import torch

from sfc.calibration import losses


def random(*shape, seed):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


LABELS = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
DC = torch.tensor([0.5, 1.0, 1.5], dtype=torch.float64)


def test_classification_loss_is_eq_1():
    score = random(2, 3, seed=0) * 4 - 2
    for b, value in enumerate(losses.classification_loss(score, LABELS).tolist()):
        total = 0.0
        for c in range(3):
            p = 1 / (1 + math.exp(-score[b, c].item()))
            total -= math.log(p) if LABELS[b, c] else math.log(1 - p)
        assert value == pytest.approx(total / 3, rel=1e-5)


@pytest.mark.parametrize(("reduction", "divisor"), [("mean", 4), ("sum", 1)])
def test_prototype_consistency_is_eq_5(reduction, divisor):
    weight, prototype = random(2, 4, 3, 2, seed=1), random(2, 4, 3, 2, seed=2)
    actual = losses.prototype_consistency(weight, prototype, DC, reduction=reduction)
    for b in range(2):
        total = 0.0
        for k in range(4):
            coefficient = 1.0 if k == 0 else DC[k - 1].item()
            cells = [abs((weight - prototype)[b, k, y, x].item()) for y in range(3) for x in range(2)]
            total += coefficient * sum(cells) / len(cells)
        assert actual[b].item() == pytest.approx(total / divisor, rel=1e-6)


@pytest.mark.parametrize(("reduction", "divisor"), [("mean", 4), ("sum", 1)])
def test_channels_that_take_no_part_in_eq_5(reduction, divisor):
    weight, prototype = random(2, 4, 3, 2, seed=1).requires_grad_(), random(2, 4, 3, 2, seed=2)
    kept = torch.tensor([[0.0, 1, 1, 0], [1, 1, 0, 1]], dtype=torch.float64)
    actual = losses.prototype_consistency(weight, prototype, DC, reduction=reduction, kept=kept)
    actual.sum().backward()
    for b in range(2):
        total = 0.0
        for k in range(4):
            if kept[b, k]:
                cells = [abs((weight - prototype)[b, k, y, x].item()) for y in range(3) for x in range(2)]
                total += (1.0 if k == 0 else DC[k - 1].item()) * sum(cells) / len(cells)
            assert bool(weight.grad[b, k].any()) == bool(kept[b, k])
        assert actual[b].item() == pytest.approx(total / divisor, rel=1e-6)
    everything = losses.prototype_consistency(weight, prototype, DC, reduction=reduction, kept=torch.ones_like(kept))
    assert torch.equal(everything, losses.prototype_consistency(weight, prototype, DC, reduction=reduction))


def resized_corners_aligned(map2d, height, width):
    """Bilinear resizing with aligned corners, cell by cell."""
    rows, columns = len(map2d), len(map2d[0])
    out = [[0.0] * width for _ in range(height)]
    for i in range(height):
        for j in range(width):
            y, x = i * (rows - 1) / (height - 1), j * (columns - 1) / (width - 1)
            y0, x0 = min(int(y), rows - 2), min(int(x), columns - 2)
            dy, dx = y - y0, x - x0
            top = map2d[y0][x0] * (1 - dx) + map2d[y0][x0 + 1] * dx
            bottom = map2d[y0 + 1][x0] * (1 - dx) + map2d[y0 + 1][x0 + 1] * dx
            out[i][j] = top * (1 - dy) + bottom * dy
    return out


@pytest.mark.parametrize(("reduction", "divisor"), [("mean", 3), ("sum", 1)])
def test_scale_consistency_is_eq_7(reduction, divisor):
    large, half = random(2, 4, 6, 5, seed=3), random(2, 4, 3, 2, seed=4)
    actual = losses.scale_consistency(large, half, LABELS, DC, reduction=reduction, detach_large=False)
    for b in range(2):
        total = 0.0
        for c in range(3):
            small = resized_corners_aligned(large[b, 1 + c].tolist(), 3, 2)
            cells = [abs(small[y][x] - half[b, 1 + c, y, x].item()) for y in range(3) for x in range(2)]
            total += LABELS[b, c].item() * DC[c].item() * sum(cells) / len(cells)
        assert actual[b].item() == pytest.approx(total / divisor, rel=1e-6)


@pytest.mark.parametrize("detach", [False, True])
def test_gradients_of_both_consistencies(detach):
    large = random(2, 4, 4, 4, seed=5).requires_grad_()
    half = random(2, 4, 2, 2, seed=6).requires_grad_()

    def scale(a, b):
        return losses.scale_consistency(a, b, LABELS, DC, reduction="mean", detach_large=False).sum()

    torch.autograd.gradcheck(scale, (large, half))
    torch.autograd.gradcheck(
        lambda a, b: losses.prototype_consistency(a, b, DC, reduction="mean").sum(),
        (large, random(2, 4, 4, 4, seed=7).requires_grad_()),
    )
    losses.scale_consistency(large, half, LABELS, DC, reduction="mean", detach_large=detach).sum().backward()
    assert (large.grad is None) == detach
    assert half.grad.abs().max() > 0
