"""Images that show no class in the training and inference of every method: background, and nothing else."""

import math

import pytest
import torch

from sfc.calibration import cams
from sfc.calibration.image_bank import ImageBank
from sfc.calibration.objective import batch_images
from sfc.methods.base import BaseObjective
from sfc.methods.sipe import SipeObjective
from tests.methods.tiny import CLASSES, CROP, base_network, batch, network, objective, sipe_network


def bank():
    settings = {"replacement": True, "exclude_batch": False, "allow_empty": False, "seed": 0}
    return ImageBank(num_classes=CLASSES, crop=CROP, draws=2, **settings)


OBJECTIVES = {
    "base": lambda: BaseObjective(base_network()),
    "sipe": lambda: SipeObjective(sipe_network(), w_gsc=1.0),
    "sfc": lambda: objective(bank=bank()),
    "sfc threshold": lambda: objective(network_changes={"prototype": PRINTED}, empty="skip", reduction="sum"),
}
PRINTED = {"mode": "threshold", "bkg_scale": 0.3, "threshold": 0.3, "seed_range": "image"}


def unlabelled(rows):
    """The batch of the other tests, of which some images show nothing."""
    changed = batch()
    changed["label"][list(rows)] = 0
    return changed


@pytest.mark.parametrize("rows", [[1], [0, 2], [0, 1, 2, 3]])
@pytest.mark.parametrize("method", OBJECTIVES)
def test_losses_stay_numbers_and_reach_every_parameter(method, rows):
    ours = OBJECTIVES[method]()
    found = ours(unlabelled(rows))
    assert all(torch.isfinite(value) for value in found.values())
    found["loss"].backward()
    learning = [p for p in ours.parameters() if p.requires_grad]
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in learning)


def test_eq_1_of_a_negative_is_that_of_all_classes_absent():
    ours = OBJECTIVES["base"]().eval()
    only = {name: rows[:1] for name, rows in unlabelled([0]).items()}
    score = ours.network(batch_images(only, ours.network.backbone)).score
    wanted = sum(math.log(1 + math.exp(logit)) for logit in score[0].tolist()) / CLASSES
    assert ours(only)["cls"].item() == pytest.approx(wanted, rel=1e-4)


def test_of_a_negative_eq_5_sees_the_background_and_eq_7_nothing():
    """Doubling DC, which weighs the classes, changes no loss of a batch of negatives."""
    dc = torch.tensor([0.5, 1.0, 1.5])
    plain, doubled = (objective(dc=scale * dc).eval()(unlabelled(range(4))) for scale in (1, 2))
    assert plain["proto"].item() == doubled["proto"].item() > 0
    assert plain["scale"].item() == 0


@pytest.mark.parametrize("mode", ["argmax", "threshold", "structure"])
@pytest.mark.parametrize("seed_range", ["none", "image"])
def test_a_negative_has_seeds_of_the_background_alone(mode, seed_range):
    ours = network(prototype={**PRINTED, "mode": mode, "seed_range": seed_range}).eval()
    only = unlabelled(range(4))
    maps = ours(batch_images(only, ours.backbone))
    mask = cams.valid_mask(only["box"], only["label"], crop=(CROP, CROP), size=maps.class_logits.shape[2:])
    weight = ours.cam_weight(maps, mask)
    seeds = ours.seeds(maps, weight, mask)
    prototype = ours.cam_prototype(maps, weight, mask)
    assert seeds[:, 0].any()
    assert not seeds[:, 1:].any()
    assert not prototype[:, 1:].any()
    assert not weight[:, 1:].any()


@pytest.mark.parametrize("made", [base_network, sipe_network, network], ids=["base", "sipe", "sfc"])
def test_the_cams_of_a_negative_do_not_depend_on_its_company(made):
    ours = made().eval()
    images = torch.randn(3, 3, CROP, CROP, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([[1.0, 0, 1], [0, 0, 0], [0, 1, 0]])
    with torch.inference_mode():
        together = ours.infer(images, labels, flip=True, mask_absent=True)[1]
        alone = ours.infer(images[1:2], labels[1:2], flip=True, mask_absent=True)[0]
    assert torch.isfinite(together).all()
    assert not together[:, 1:].any()
    torch.testing.assert_close(together, alone, rtol=1e-3, atol=1e-4)
