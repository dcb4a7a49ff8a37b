"""The segmentation loss against loops in float64, its gradient, and that it trains."""

import math

import numpy as np
import pytest
import torch

from sfc.data.images import IGNORE, resize_labels
from sfc.segmentation.deeplab import DeepLabV2
from sfc.segmentation.objective import SegmentationObjective, pixel_loss
from sfc.segmentation.pyramid import merged, pyramid_logits
from sfc.training.optim import sgd


def random_case(values=(0, 1, 2, 3, IGNORE)):
    rng = np.random.default_rng(3)
    logits = torch.from_numpy(rng.normal(size=(2, 4, 3, 5)))
    return logits, torch.from_numpy(rng.choice(values, size=(2, 3, 5)).astype(np.uint8))


def loss_loop(logits, labels, kind):
    found = {"bg": [], "fg": []}
    for b, y, x in np.ndindex(*labels.shape):
        label = int(labels[b, y, x])
        if label != IGNORE:
            scores = [float(s) for s in logits[b, :, y, x].detach()]
            loss = math.log(sum(math.exp(s) for s in scores)) - scores[label]
            found["fg" if label else "bg"].append(loss)
    if kind == "ce":
        every = found["bg"] + found["fg"]
        return sum(every) / max(1, len(every))
    return sum(sum(part) / max(1, len(part)) for part in found.values()) / 2


@pytest.mark.parametrize("values", [(0, 1, 2, 3, IGNORE), (0, IGNORE), (2, IGNORE), (IGNORE,)])
@pytest.mark.parametrize("kind", ["ce", "balanced_ce"])
def test_pixel_loss_equals_loops(kind, values):
    logits, labels = random_case(values)
    assert pixel_loss(logits, labels, kind).item() == pytest.approx(loss_loop(logits, labels, kind), rel=1e-12)


@pytest.mark.parametrize("kind", ["ce", "balanced_ce"])
def test_pixel_loss_gradient(kind):
    logits, labels = random_case()
    assert torch.autograd.gradcheck(lambda x: pixel_loss(x, labels, kind), logits.requires_grad_())
    (gradient,) = torch.autograd.grad(pixel_loss(logits, labels, kind), logits)
    assert not gradient.transpose(0, 1)[:, labels == IGNORE].any()


def two_images(scale=1):
    """A square and a bar of two classes, the second image narrower than its canvas."""
    images = torch.full((2, 3, 36, 36), 90, dtype=torch.uint8)
    masks = torch.zeros(2, 36, 36, dtype=torch.uint8)
    images[0, 0, 4:20, 4:20], masks[0, 4:20, 4:20] = 220, 1
    images[1, 2, 10:26, :28], masks[1, 10:26, :28] = 220, 2
    masks[1, :, 28:] = IGNORE
    boxes = torch.tensor([[0, 0, 36, 36], [0, 0, 36, 28]])
    return {
        "image": images.repeat_interleave(scale, 2).repeat_interleave(scale, 3),
        "box": boxes * scale,
        "mask": masks.repeat_interleave(scale, 1).repeat_interleave(scale, 2),
    }


def make(train_scales=(0.75, 0.5), **options):
    torch.manual_seed(0)
    network = DeepLabV2(arch="resnet18", num_classes=3, atrous_rates=(1, 2), image_scale=1.0, **options)
    return network, SegmentationObjective(network, train_scales=train_scales, loss="ce", seed=0, batch_size=2)


def test_objective_sums_scales_and_maximum():
    network, objective = make()
    batch = two_images()
    found = objective.eval()(batch)["loss"].item()
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    images = (batch["image"] / 255 - mean) / std
    images[1, :, :, 28:] = 0
    maps = pyramid_logits(network, images, (1.0, 0.75, 0.5))
    maps.append(merged(maps, merge="max", align_corners=False))
    expected = [loss_loop(x, resize_labels(batch["mask"], x.shape[2:]), "ce") for x in maps]
    assert found == pytest.approx(sum(expected), rel=1e-5)


def test_objective_without_further_scales_is_one_loss():
    _, objective = make(train_scales=())
    once = objective.eval()(two_images())["loss"].item()
    assert once == pytest.approx(math.log(3), rel=0.2)  # near the loss of equal scores, counted once


def test_a_few_steps_fit_two_images():
    network, objective = make(batch_norm="train", train_scales=(0.9,), frozen_stages=4)  # layer4 and head: quick
    objective.train()
    optimiser = sgd(network.parameter_groups(lr=1e-4, head_lr_scale=10.0, weight_decay=5e-4), momentum=0.9)
    losses = []
    for _ in range(8):
        loss = objective(two_images(scale=2))["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
