"""The objective: which losses it adds up, that its parts are the tested ones, and that params reach it."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from sfc.calibration import cams, losses
from sfc.calibration.image_bank import ImageBank
from sfc.calibration.method import Setup
from sfc.calibration.objective import batch_images
from sfc.calibration.seeds import image_range, prototype_seeds
from sfc.methods.sfc import SFC
from sfc.params import load_params
from tests.calibration.loop_seeds import loop_structure_seeds
from tests.methods.tiny import CLASSES, CROP, DC, SEEDS, TRUNK, batch, objective

PARAMS = load_params(Path(__file__).resolve().parents[2] / "presets" / "voc12.yaml")


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
    assert set(losses_) - set(SFC.measures) == {"loss", "cls"}
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


def test_channels_without_a_seed_can_be_left_out_of_eq_5():
    """Two products of an untrained network leave no seed of the background, whose map Eq. 5 then pulls to 0."""
    zero, skip = objective().eval(), objective(empty="skip").eval()
    released, left_out = zero(batch()), skip(batch())
    images = batch_images(batch(), zero.network.backbone)
    maps = zero.network(images)
    mask = cams.valid_mask(batch()["box"], batch()["label"], crop=(CROP, CROP), size=(4, 4))
    weight = zero.network.cam_weight(maps, mask)
    seeds = zero.network.seeds(maps, weight, mask)
    prototype = cams.max_normalised(zero.network.cam_prototype(maps, weight, mask))
    dropped = 0.0
    for b in range(4):
        for k in range(1 + CLASSES):
            if seeds[b, k].sum() == 0:
                distance = (weight[b, k] - prototype[b, k]).abs().mean().item()
                dropped += (1.0 if k == 0 else DC[k - 1].item()) * distance / (1 + CLASSES)
    assert seeds[:, 0].sum() == 0
    assert dropped > 0
    assert released["proto"].item() - left_out["proto"].item() == pytest.approx(1.6 * dropped / 4, rel=1e-4)
    assert left_out["cls"] == released["cls"]
    assert left_out["scale"] == released["scale"]


def test_seeds_from_the_maps_own_range_give_the_background_some():
    found = [
        objective(network_changes={"prototype": SEEDS | {"seed_range": seed_range}})(batch())
        for seed_range in ("none", "image")
    ]
    assert [values["no_background_seed"].item() for values in found] == [0.75, 0.0]
    assert found[1]["empty_prototypes"] < found[0]["empty_prototypes"]
    assert found[0]["cam_range"] == found[1]["cam_range"]


STRUCTURE = SEEDS | {"mode": "structure", "bkg_scale": 1.0, "seed_range": "image"}


@pytest.mark.parametrize("prototype", [SEEDS | {"seed_range": "image"}, STRUCTURE], ids=["argmax", "structure"])
@pytest.mark.parametrize("iters", [0, 1])
def test_seeds_may_come_from_a_map_of_other_products_in_training(prototype, iters):
    ours = objective(network_changes={"prototype": prototype, "seed_pcm_iters": iters}).eval()
    images = batch_images(batch(), ours.network.backbone)
    maps = ours.network(images)
    mask = cams.valid_mask(batch()["box"], batch()["label"], crop=(CROP, CROP), size=(4, 4))
    weight = ours.network.cam_weight(maps, mask)
    cam = ours.network.cam_weight(maps, mask, iters=iters)
    if prototype is STRUCTURE:
        feature = maps.hierarchical.detach().double().numpy()
        ranged = image_range(cam.detach(), mask).double().numpy()
        found = torch.tensor(loop_structure_seeds(ranged, feature, 1.0)).float() * mask
    else:
        found = prototype_seeds(cam, mask, **prototype)
    expected = losses.prototype_consistency(
        weight, cams.max_normalised(cams.prototype_cam(maps.hierarchical, found)), DC, reduction="mean"
    )
    actual = ours(batch())
    assert actual["proto"].item() == pytest.approx(1.6 * expected.mean().item(), rel=1e-4)
    as_released = objective(network_changes={"prototype": prototype}).eval()(batch())
    assert actual["proto"].item() != pytest.approx(as_released["proto"].item(), rel=1e-3)
    actual["loss"].backward()
    assert all(p.grad is not None for p in ours.parameters() if p.requires_grad)


def test_seeds_by_structure_need_no_loss_of_their_own():
    ours = objective(w_proto=0.0, network_changes={"prototype": STRUCTURE})
    found = ours(batch())
    assert set(found) - set(SFC.measures) == {"loss", "cls", "scale"}
    found["loss"].backward()
    assert all(p.grad is not None for p in ours.parameters() if p.requires_grad)


def test_measures_are_in_no_loss():
    found = objective()(batch())
    assert list(found) == ["loss", *SFC.losses, *SFC.measures]
    assert found["loss"].item() == pytest.approx(sum(found[name].item() for name in SFC.losses), rel=1e-6)
    assert not any(found[name].requires_grad for name in SFC.measures)
    assert all(0 <= found[name].item() <= 1 for name in SFC.measures)
    without = objective(network_changes={"pcm_iters": 0})(batch())
    assert "pcm_share" not in without
    assert without["cam_range"] > 10 * found["cam_range"]


def test_a_warning_when_most_images_have_no_seed_of_the_background():
    assert SFC.warning({"no_background_seed": 0.5}) is None
    assert SFC.warning({"no_background_seed": 0.934}) == (
        "in 93 % of the images no pixel is a seed of the background, so its prototype is undefined and, with "
        "sfc.prototype.empty zero, everything becomes foreground; see sfc.pcm_iters, sfc.seed_pcm_iters, sfc.prototype"
    )


def built(**changes):
    """The objective that the stage trains, of the released params with other fields of `ibr`."""
    sections = {name: PARAMS.get(name) for name in SFC.sections}
    sections["ibr"] = sections["ibr"].model_copy(update=changes)
    return SFC.objective(Setup(trunk=TRUNK, crop=CROP, random_seed=7, dc=DC), **sections)


def test_it_is_built_with_the_distribution_coefficients():
    assert torch.equal(built().dc_proto, DC)
    assert torch.equal(built().dc_scale, DC)


def test_it_is_built_with_the_bank_of_its_params_or_with_none():
    bank = built(n=5, exclude_batch=True).bank
    assert (bank.draws, bank.seed, bank.exclude_batch, bank.image.shape) == (5, 7, True, (CLASSES, 3, CROP, CROP))
    assert built(n=0).bank is None
