"""The objective: which losses it adds up, and that its parts are the tested ones."""

import pytest
import torch
import torch.nn.functional as F

from sfc.calibration import cams, losses
from sfc.calibration.image_bank import ImageBank
from sfc.calibration.objective import batch_images
from tests.methods.tiny import CLASSES, CROP, DC, batch, objective


def test_losses_are_eq_8_on_both_scales():
    ours = objective().eval()
    actual = ours(batch())
    images = batch_images(batch(), ours.network.backbone)
    half = F.interpolate(images, scale_factor=0.5, mode="bilinear", align_corners=True)
    full_mask = cams.with_background(batch()["label"])[:, :, None, None] * torch.ones(1, 1, CROP, CROP)
    for b, (top, left, bottom, right) in enumerate(batch()["box"].tolist()):
        outside = torch.ones(CROP, CROP, dtype=torch.bool)
        outside[top:bottom, left:right] = False
        full_mask[b][:, outside] = 0
    weights, scores = [], []
    for scale, cells in ((images, 4), (half, 2)):
        maps = ours.network(scale)
        mask = F.interpolate(full_mask, size=(cells, cells), mode="nearest")
        weights.append(ours.network.cam_weight(maps, mask))
        scores.append(F.multilabel_soft_margin_loss(maps.score, batch()["label"]))
        if cells == 4:
            prototype = ours.network.cam_prototype(maps, weights[0], mask)
    prototype = prototype / (prototype.amax(dim=(2, 3), keepdim=True) + 1e-5)
    expected = {
        "cls": sum(scores) / 2,
        "proto": 1.6 * losses.prototype_consistency(weights[0], prototype, DC, reduction="mean").mean(),
        "scale": 0.8
        * losses.scale_consistency(*weights, batch()["label"], DC, reduction="mean", detach_large=False).mean(),
    }
    for name, value in expected.items():
        assert actual[name].item() == pytest.approx(value.item(), rel=1e-4), name
    assert actual["loss"].item() == pytest.approx(sum(v.item() for v in expected.values()), rel=1e-4)


def test_dc_can_be_left_out_of_either_loss():
    plain, proto, scale = (objective(**c)(batch()) for c in ({}, {"dc_proto": False}, {"dc_scale": False}))
    assert proto["proto"] != plain["proto"]
    assert proto["scale"] == plain["scale"]
    assert scale["proto"] == plain["proto"]
    assert scale["scale"] != plain["scale"]


def test_a_weight_of_zero_leaves_the_loss_out_and_its_heads_without_gradient():
    base = objective(w_proto=0.0, w_scale=0.0)
    losses_ = base(batch())
    assert set(losses_) == {"loss", "cls"}
    losses_["loss"].backward()
    assert all(p.grad is not None for p in base.parameters() if p.requires_grad)


def test_every_learning_parameter_gets_a_gradient():
    ours = objective()
    ours(batch())["loss"].backward()
    assert all(p.grad is not None for p in ours.parameters() if p.requires_grad)


def test_the_bank_adds_its_images_to_the_batch():
    bank = ImageBank(
        num_classes=CLASSES,
        crop=CROP,
        draws=2,
        replacement=True,
        exclude_batch=False,
        allow_empty=False,
        seed=0,
    )
    ours = objective(bank=bank).eval()
    losses_ = ours(batch())
    bank.set_extra_state({"step": 0})
    drawn = bank.draw()
    joined = {name: torch.cat([batch()[name], drawn[name]]) for name in batch()}
    without = objective().eval()(joined)
    assert losses_["loss"].item() == pytest.approx(without["loss"].item(), rel=1e-5)
