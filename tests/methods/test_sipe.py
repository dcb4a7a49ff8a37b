"""SIPE against loops in float64: structure-aware seeds, image-specific CAM, losses and their gradients."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from sfc.calibration import cams
from sfc.calibration.objective import batch_images
from sfc.methods.sipe import SipeNetwork, SipeObjective
from tests.calibration.loop_seeds import loop_structure_seeds
from tests.methods.tiny import CROP, batch, sipe_network

LABELS = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
BKG_SCALE = 1.0  # with 0.5 an untrained trunk has no seed of the background


def images():
    return torch.randn(2, 3, 48, 64, generator=torch.Generator().manual_seed(1))


def plain_parts(network, images, mask):
    """Logits, CAM, hierarchical feature and layer4, in the network's own precision and without its code."""
    _, *levels = network.backbone(images)
    logits = F.conv2d(levels[-1], network.classifier.weight)
    cam = F.relu(logits)
    cam = cam / (cam.flatten(2).max(dim=2).values[:, :, None, None] + 1e-5)
    cam = torch.cat([1 - cam.max(dim=1, keepdim=True).values, cam], dim=1) * mask
    sides = []
    for side, level in zip(network.sides, levels, strict=True):
        projected = F.conv2d(level.detach(), side.weight)
        projected = projected / (projected.norm(dim=1, keepdim=True) + 1e-5)
        sides.append(F.interpolate(projected, size=levels[2].shape[2:], mode="bilinear", align_corners=False))
    return logits, cam, torch.cat(sides, dim=1), levels[-1]


def loop_specific(feature, seeds):
    """Image-specific CAM, one pixel and class at a time, with gradient: (B, D, H, W), (B, K, H, W) -> (B, K, H, W)."""
    rows = []
    for b in range(len(feature)):
        pixels = feature[b].flatten(1).T
        for of_class in seeds[b].reshape(seeds.shape[1], -1):
            prototype = sum(s * p for s, p in zip(of_class, pixels, strict=True)) / len(pixels)
            cosines = [(prototype @ p) / (prototype.norm().clamp_min(1e-8) * p.norm().clamp_min(1e-8)) for p in pixels]
            rows.append(torch.stack([c.clamp_min(0) for c in cosines]))
    return torch.stack(rows).view(*seeds.shape)


def test_losses_and_gradients_against_loops():
    objective = SipeObjective(sipe_network(bkg_scale=BKG_SCALE), w_gsc=0.7).eval()
    found = objective(batch())
    found["loss"].backward()
    exact = copy.deepcopy(objective.network).double()
    exact.zero_grad()
    mask = cams.valid_mask(batch()["box"], batch()["label"], crop=(CROP, CROP), size=(4, 4)).double()
    logits, cam, feature, layer4 = plain_parts(exact, batch_images(batch(), exact.backbone).double(), mask)
    seeds = torch.tensor(loop_structure_seeds(cam.detach().numpy(), layer4.detach().numpy(), BKG_SCALE)) * mask
    assert seeds[:, 1:].any()
    assert seeds[:, 0].any()
    specific = loop_specific(feature, seeds)
    specific = specific / (specific.flatten(2).max(dim=2).values[:, :, None, None] + 1e-5)
    cls = F.multilabel_soft_margin_loss(logits.mean(dim=(2, 3)), batch()["label"].double())
    gsc = 0.7 * (cam - specific).abs().mean()
    (cls + gsc).backward()
    assert {name: value.item() for name, value in found.items()} == pytest.approx(
        {"loss": (cls + gsc).item(), "cls": cls.item(), "proto": gsc.item()}, rel=1e-4
    )
    for name, parameter in objective.network.named_parameters():
        if parameter.requires_grad:
            wanted = exact.get_parameter(name).grad.float()
            torch.testing.assert_close(parameter.grad, wanted, rtol=1e-2, atol=1e-3 * wanted.abs().max().item())


def test_without_consistency_the_prototypes_do_not_learn():
    objective = SipeObjective(sipe_network(), w_gsc=0.0)
    found = objective(batch())
    found["loss"].backward()
    assert set(found) == {"loss", "cls"}
    assert all((p.grad is not None) == p.requires_grad for p in objective.parameters())
    assert not any(p.requires_grad for p in objective.network.sides.parameters())


@pytest.mark.parametrize("infer_feature", ["hierarchical", "semantic"])
@pytest.mark.parametrize("mask_absent", [False, True])
def test_inference_gives_the_plain_cam_and_the_image_specific_one(infer_feature, mask_absent):
    network = sipe_network(infer_feature=infer_feature).eval()
    found = network.infer(images(), LABELS, flip=False, mask_absent=mask_absent)
    present = cams.with_background(LABELS)[:, :, None, None].double()
    with torch.no_grad():
        exact = copy.deepcopy(network).double()
        _, cam, feature, layer4 = plain_parts(exact, images().double(), present if mask_absent else 1)
    compared = feature if infer_feature == "hierarchical" else layer4
    seeds = torch.tensor(loop_structure_seeds(cam.numpy(), compared.numpy(), 0.5)) * present
    np.testing.assert_allclose(found[:, 0].detach(), cam, atol=1e-5)
    np.testing.assert_allclose(found[:, 1].detach(), loop_specific(feature, seeds), atol=1e-5)


def test_the_features_of_inference_differ():
    hierarchical, semantic = (
        sipe_network(infer_feature=f).eval().infer(images(), LABELS, flip=False, mask_absent=False)
        for f in ("hierarchical", "semantic")
    )
    assert torch.equal(hierarchical[:, 0], semantic[:, 0])
    assert not torch.equal(hierarchical[:, 1], semantic[:, 1])


def test_flip_makes_the_maps_mirror_with_the_image():
    network = sipe_network().eval()
    straight = network.infer(images(), LABELS, flip=True, mask_absent=False)
    mirrored = network.infer(images().flip(3), LABELS, flip=True, mask_absent=False)
    assert torch.allclose(straight, mirrored.flip(4), atol=1e-4)


def test_the_prototype_stands_for_sipe_alone():
    assert (SipeNetwork.kinds, SipeNetwork.fused) == (("classifier", "prototype"), ("prototype",))
