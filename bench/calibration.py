"""Parts of the training steps of SFC and SIPE."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.inputs import smooth, uniform
from bench.measure import Pair, Row
from sfc.backbone import IMAGENET_MEAN, IMAGENET_STD, Backbone
from sfc.calibration import cams, seeds
from sfc.calibration.image_bank import ImageBank
from sfc.data.images import box_masks, normalise


def image_bank(device: torch.device, *, classes: int, crop: int, draws: int) -> Pair:
    """Images and class masks of one draw; the plain bank lives on the host, as float images and full-size masks."""
    bank = ImageBank(
        num_classes=classes, crop=crop, draws=draws, replacement=False, exclude_batch=False, allow_empty=False, seed=0
    )
    box = torch.tensor([[crop // 8, 0, crop, crop - crop // 8]]).expand(classes, 4)
    pictures = (uniform(classes, 3, crop, crop) * 255).to(torch.uint8)
    bank.update({"image": pictures, "box": box, "label": torch.eye(classes)})
    images = normalise(pictures, box, mean=IMAGENET_MEAN, std=IMAGENET_STD)
    inside = box_masks(box, canvas=(crop, crop), size=(crop, crop))
    masks = F.pad(torch.eye(classes), (1, 0), value=1.0)[:, :, None, None] * inside[:, None].float()
    drawn = bank.draw()["label"].argmax(dim=1)  # slot k holds class k alone, so that both forms draw the same
    order = torch.tensor([*drawn.tolist(), *sorted(set(range(classes)) - set(drawn.tolist()))])
    bank.to(device)
    size = (crop // 16, crop // 16)

    def plain() -> tuple:
        shuffled_images, shuffled_masks = images[order].to(device), masks[order].to(device)
        return shuffled_images[:draws], F.interpolate(shuffled_masks[:draws], size=size, mode="nearest")

    def ours() -> tuple:
        bank.set_extra_state({"step": 0})
        rows = bank.draw()
        mask = cams.valid_mask(rows["box"], rows["label"], crop=(crop, crop), size=size)
        return normalise(rows["image"], rows["box"], mean=IMAGENET_MEAN, std=IMAGENET_STD), mask

    return Pair(plain, ours)


def prototype_cam(device: torch.device, *, batch: int, classes: int, channels: int, side: int) -> Pair:
    """Prototype CAM and its gradient."""
    feature = uniform(batch, channels, side, side).to(device).requires_grad_()
    winner = smooth(batch, classes, side, side).argmax(dim=1)
    seeds = F.one_hot(winner, classes).permute(0, 3, 1, 2).float().to(device)
    weight = uniform(batch, classes, side, side, seed=1).to(device)

    def with_gradient(cam: Tensor) -> tuple:
        return cam, *torch.autograd.grad((cam * weight).sum(), feature)

    def plain() -> tuple:
        prototypes = (feature[:, None] * seeds[:, :, None]).mean(dim=(3, 4), keepdim=True)
        return with_gradient(F.cosine_similarity(feature[:, None], prototypes, dim=2).relu())

    return Pair(plain, lambda: with_gradient(cams.prototype_cam(feature, seeds)))


def pixel_correlation(device: torch.device, *, batch: int, classes: int, channels: int, side: int) -> Pair:
    """Two products with the pixel correlation, and the gradient."""
    cam = smooth(batch, classes, side, side).to(device)
    feature = uniform(batch, channels, side, side).to(device).requires_grad_()
    weight = uniform(batch, classes, side, side, seed=1).to(device)

    def with_gradient(refined: Tensor) -> tuple:
        return refined, *torch.autograd.grad((refined * weight).sum(), feature)

    def plain() -> tuple:
        f = feature.flatten(2)
        f = f / (f.norm(dim=1, keepdim=True) + cams.EPS)
        affinity = (f.transpose(1, 2) @ f).relu()
        affinity = affinity / (affinity.sum(dim=1, keepdim=True) + cams.EPS)
        return with_gradient((cam.flatten(2) @ (affinity @ affinity)).view_as(cam))

    return Pair(plain, lambda: with_gradient(cams.pixel_correlation(cam, feature, iters=2)))


def structure_seeds(device: torch.device, *, batch: int, classes: int, channels: int, side: int) -> Pair:
    """SIPE's seeds; the plain form meets every pixel's correlation map with every class's CAM in one tensor."""
    cam = smooth(batch, classes, side, side).to(device)
    feature = (smooth(batch, channels, side, side, seed=1) - 0.5).to(device)
    mask = torch.ones(1, 1, 1, 1, device=device)

    def plain() -> tuple:
        f = feature.flatten(2)
        f = f / (f.norm(dim=1, keepdim=True) + cams.EPS)
        correlation = (f.transpose(1, 2) @ f).relu()[:, None]
        maps = cam.flatten(2)[:, :, None]
        shared = (correlation * maps).sum(dim=3)
        likeness = shared / (correlation.sum(dim=3) + maps.sum(dim=3) - shared)
        likeness[:, 0] *= 0.5
        return (F.one_hot(likeness.argmax(dim=1), classes).sum(dim=1),)

    def ours() -> tuple:  # counts: where two classes tie but for rounding, a seed may change sides
        return (seeds.structure_seeds(cam, feature, mask, bkg_scale=0.5).sum(dim=(2, 3)),)

    return Pair(plain, ours)


def frozen_trunk(device: torch.device, *, arch: str, batch: int, side: int) -> Pair:
    """Forward and backward pass of a trunk whose stem, layer1 and layer2 do not learn.

    The plain form tracks gradients everywhere and detaches what the frozen stages give.
    """
    torch.manual_seed(0)
    trunk = Backbone(arch=arch, frozen_stages=3, batch_norm="frozen").train()
    trunk = trunk.to(device, memory_format=torch.channels_last)
    tracked = copy.deepcopy(trunk).requires_grad_(True)
    images = smooth(batch, 3, side, side).to(device, memory_format=torch.channels_last) - 0.5

    def layer4_gradient(network: Backbone, feature: Tensor) -> tuple:
        params = [*network.layer3.parameters(), *network.layer4.parameters()]
        return torch.autograd.grad(feature.float().square().mean(), params)[-2:]

    def plain() -> tuple:
        stem = nn.Sequential(tracked.conv1, tracked.bn1, tracked.relu, tracked.maxpool)
        with torch.autocast(device.type, torch.bfloat16):
            x = tracked.layer2(tracked.layer1(stem(images))).detach()
            x = tracked.layer4(tracked.layer3(x))
        return layer4_gradient(tracked, x)

    def ours() -> tuple:
        with torch.autocast(device.type, torch.bfloat16):
            x = trunk(images)[-1]
        return layer4_gradient(trunk, x)

    return Pair(plain, ours)


ROWS = (
    Row(
        "image-bank",
        "shuffle the whole bank of float images and masks -> gather drawn uint8 slots, masks from boxes",
        image_bank,
        {
            "tiny": {"classes": 3, "crop": 32, "draws": 2},
            "small": {"classes": 20, "crop": 256, "draws": 4},
            "full": {"classes": 20, "crop": 512, "draws": 4},
        },
        tolerance=0,
    ),
    Row(
        "prototype-cam",
        "(B, K, D, H, W) tensor -> two matrix products; with gradient",
        prototype_cam,
        {
            "tiny": {"batch": 2, "classes": 3, "channels": 16, "side": 6},
            "small": {"batch": 4, "classes": 21, "channels": 768, "side": 16},
            "full": {"batch": 8, "classes": 21, "channels": 768, "side": 32},
        },
        tolerance=1e-4,
    ),
    Row(
        "pixel-correlation",
        "cam (A A) -> (cam A) A; with gradient",
        pixel_correlation,
        {
            "tiny": {"batch": 2, "classes": 3, "channels": 16, "side": 6},
            "small": {"batch": 4, "classes": 21, "channels": 512, "side": 24},
            "full": {"batch": 20, "classes": 21, "channels": 2048, "side": 32},
        },
        tolerance=1e-4,
    ),
    Row(
        "structure-seeds",
        "(B, K, HW, HW) tensor -> one matrix product for all intersections",
        structure_seeds,
        {
            "tiny": {"batch": 2, "classes": 3, "channels": 16, "side": 6},
            "small": {"batch": 4, "classes": 21, "channels": 512, "side": 16},
            "full": {"batch": 8, "classes": 21, "channels": 2048, "side": 32},
        },
        tolerance=1e-2,
    ),
    Row(
        "frozen-trunk",
        "frozen stages with autograd -> without; bf16, forward and backward",
        frozen_trunk,
        {
            "tiny": {"arch": "resnet18", "batch": 1, "side": 32},
            "small": {"arch": "resnet50", "batch": 4, "side": 256},
            "full": {"arch": "resnet50", "batch": 16, "side": 512},
        },
        tolerance=1e-2,
    ),
)
