"""CAMs and losses of SFC against the public implementation's arrays, gradients included."""

import pytest
import torch
import torch.nn.functional as F

from sfc.calibration import cams, losses
from sfc.calibration.seeds import prototype_seeds


def tensors(arrays):
    return {name: torch.as_tensor(arrays[name]).float() for name in arrays.files}


def assert_same(actual, expected, *, rel=1e-5):
    scale = expected.abs().max().clamp_min(1e-12)
    assert ((actual.detach() - expected).abs().max() / scale).item() < rel


@pytest.fixture
def arrays(golden):
    return tensors(golden("sfc_cams"))


def refined(logits, feature, f9, arrays):
    masked = cams.prepend_background(cams.normalised_cam(logits)) * arrays["valid_mask"]
    semantic = F.conv2d(torch.cat([arrays["image_resized"], feature], dim=1), f9)
    return masked, cams.pixel_correlation(masked, semantic, iters=2)


def test_classifier_weight_cam_and_its_gradients(arrays):
    leaves = {name: arrays[name].clone().requires_grad_() for name in ("class_logits", "feature", "f9_weight")}
    masked, cam = refined(*leaves.values(), arrays)
    assert_same(masked, arrays["norm_cam_before_pcm"])
    assert_same(cam, arrays["cam_weight"])
    (cam.flatten() * torch.linspace(0, 1, cam.numel())).sum().backward()
    for leaf, gradient in zip(leaves.values(), ("grad_class_logits", "grad_feature", "grad_f9"), strict=True):
        assert_same(leaf.grad, arrays[gradient], rel=1e-4)


def test_hierarchical_feature(arrays):
    sides = [arrays[f"side{level}"] for level in (1, 2, 3, 4)]
    assert_same(cams.hierarchical_feature(sides, arrays["side3"].shape[2:]), arrays["hierarchical_feature"])


def test_prototype_cam(arrays):
    rule = {"mode": "argmax", "bkg_scale": 0.3, "threshold": 0.0, "seed_range": "none"}
    seeds = prototype_seeds(arrays["cam_weight"], arrays["valid_mask"], **rule)
    assert_same(cams.prototype_cam(arrays["hierarchical_feature"], seeds), arrays["cam_prototype"])


def test_losses_and_their_gradients(golden):
    arrays = tensors(golden("sfc_losses"))
    names = ("cam_weight", "cam_prototype", "cam_weight_half", "score", "score_half")
    leaf = {name: arrays[name].clone().requires_grad_() for name in names}
    scores = [losses.classification_loss(leaf[s].flatten(1), arrays["label"]).mean() for s in ("score", "score_half")]
    prototype = losses.prototype_consistency(
        leaf["cam_weight"], cams.max_normalised(leaf["cam_prototype"]), arrays["dc"], reduction="mean"
    )
    scale = losses.scale_consistency(
        leaf["cam_weight"],
        leaf["cam_weight_half"],
        arrays["label"],
        arrays["dc"],
        reduction="mean",
        detach_large=False,
    )
    parts = {"loss_cls": sum(scores) / 2, "loss_dw_p": 1.6 * prototype.mean(), "loss_dw_w": 0.8 * scale.mean()}
    for name, value in parts.items():
        assert_same(value, arrays[name])
    total = sum(parts.values())
    assert_same(total, arrays["total"])
    total.backward()
    for name, tensor in leaf.items():
        assert_same(tensor.grad, arrays[f"grad_{name}"], rel=1e-4)
