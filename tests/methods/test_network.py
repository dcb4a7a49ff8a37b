"""The CAM network: what learns, what inference adds up, and its file."""

import pytest
import torch

from sfc.calibration import cams
from sfc.errors import UserError
from sfc.localization.multiscale import ready
from sfc.methods import load_cam_network, save_cam_network
from sfc.methods.sfc import SfcNetwork
from tests.methods.tiny import CLASSES, SEEDS, base_network, network


def images(batch=2, height=48, width=64):
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(1))


LABELS = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])


def test_frozen_stages_do_not_learn_and_batch_norm_keeps_its_statistics():
    net = network().train()
    maps = net(images())
    maps.class_logits.sum().backward()
    learning = {name.split(".")[1] for name, p in net.named_parameters() if p.grad is not None and "backbone" in name}
    assert learning == {"layer3", "layer4"}
    assert torch.equal(net.backbone.bn1.running_mean, torch.zeros(64))
    assert net.backbone.layer3[0].bn1.weight.grad is not None  # scale and shift learn, statistics do not


def test_training_from_scratch_learns_everywhere_and_updates_batch_norm():
    net = network(frozen_stages=0, batch_norm="train").train()
    net(images()).class_logits.sum().backward()
    assert net.backbone.conv1.weight.grad.abs().max() > 0
    assert net.backbone.bn1.running_mean.abs().max() > 0


def test_side_projections_send_no_gradient_into_the_trunk():
    net = network(frozen_stages=0).train()
    net(images()).hierarchical.square().sum().backward()
    assert all(p.grad is None for p in net.backbone.parameters())
    assert all(p.grad is not None for p in net.sides.parameters())


def test_infer_has_one_map_a_kind_and_class():
    out = network().eval().infer(images(), LABELS, flip=False, mask_absent=False)
    assert out.shape == (2, 2, 1 + CLASSES, 3, 4)
    assert out.dtype == torch.float32
    absent = cams.with_background(LABELS) == 0
    assert out[:, 1][absent].abs().max() == 0  # an absent class has no prototype
    assert out[:, 0][absent].abs().max() > 0


def test_masking_absent_classes_before_pcm_changes_no_present_foreground():
    net = network().eval()
    plain = net.infer(images(), LABELS, flip=False, mask_absent=False)[:, 0]
    masked = net.infer(images(), LABELS, flip=False, mask_absent=True)[:, 0]
    present = cams.with_background(LABELS) > 0
    assert torch.allclose(plain[present], masked[present])
    assert masked[~present].abs().max() == 0


def test_flip_makes_the_maps_mirror_with_the_image():
    net = network().eval()
    straight = net.infer(images(), LABELS, flip=True, mask_absent=False)
    mirrored = net.infer(images().flip(3), LABELS, flip=True, mask_absent=False)
    assert torch.allclose(straight, mirrored.flip(4), atol=1e-4)


def test_flip_sums_before_rectifying():
    net = network().eval()
    straight, mirrored = net(images()), net(images().flip(3))
    total = straight.class_logits + mirrored.class_logits.flip(3)
    expected = cams.prepend_background(cams.normalised_cam(total))
    expected = cams.pixel_correlation(expected, straight.semantic + mirrored.semantic.flip(3), iters=2)
    actual = net.infer(images(), LABELS, flip=True, mask_absent=False)[:, 0]
    assert torch.allclose(actual, expected, atol=1e-4)


def test_background_after_pcm_is_one_minus_the_refined_foreground():
    net = network(bkg_before_pcm=False).eval()
    cam = net.infer(images(), LABELS, flip=False, mask_absent=False)[:, 0]
    assert torch.allclose(cam[:, 0], 1 - cam[:, 1:].amax(dim=1), atol=1e-6)


@pytest.mark.parametrize("build", [base_network, network])
def test_the_correlation_at_reading_is_apart_from_that_in_training(build):
    for trained, read in ((2, 0), (0, 2), (2, 1)):
        net = build(pcm_iters=trained).eval()
        as_trained = net.infer(images(), LABELS, flip=True, mask_absent=False)
        net.pcm_iters = read
        found = net.infer(images(), LABELS, flip=True, mask_absent=False)
        wanted = build(pcm_iters=read).eval().infer(images(), LABELS, flip=True, mask_absent=False)
        assert torch.equal(found, wanted)
        assert not torch.equal(found, as_trained)
        assert net.config["pcm_iters"] == trained


def test_seeds_at_reading_may_come_from_a_map_of_other_products():
    net = network().eval()
    refined = net.infer(images(), LABELS, flip=True, mask_absent=True)
    plain = network(pcm_iters=0).eval().infer(images(), LABELS, flip=True, mask_absent=True)
    net.seed_pcm_iters = 0
    found = net.infer(images(), LABELS, flip=True, mask_absent=True)
    assert torch.equal(found[:, 0], refined[:, 0])  # the classifier's map
    assert torch.equal(found[:, 1], plain[:, 1])  # the prototypes'
    assert not torch.equal(plain[:, 1], refined[:, 1])
    net.seed_pcm_iters = net.pcm_iters
    assert torch.equal(net.infer(images(), LABELS, flip=True, mask_absent=True), refined)
    assert torch.equal(network(seed_pcm_iters=0).eval().infer(images(), LABELS, flip=True, mask_absent=True), found)


def test_null_reads_seeds_as_trained():
    trained = {products: network(seed_pcm_iters=products).eval() for products in (None, 0)}
    as_trained = {
        products: net.infer(images(), LABELS, flip=True, mask_absent=True) for products, net in trained.items()
    }
    for products, read, wanted in ((None, None, None), (0, None, 0), (None, 0, 0), (0, 2, None)):
        net = ready(network(seed_pcm_iters=products).eval(), pcm_iters=None, seed_pcm_iters=read, precision="fp32")
        found = net.infer(images(), LABELS, flip=True, mask_absent=True)
        torch.testing.assert_close(found, as_trained[wanted], rtol=1e-3, atol=1e-4)
    assert (as_trained[None] - as_trained[0]).abs().max() > 0.1


def test_a_file_keeps_how_seeds_are_taken_and_one_from_before_takes_them_as_released(tmp_path):
    structure = SEEDS | {"mode": "structure", "bkg_scale": 0.5}
    save_cam_network(
        network(prototype=structure, seed_pcm_iters=0), tmp_path / "a", method="sfc", classes=("a", "b", "c"), params={}
    )
    again = load_cam_network(tmp_path / "a", torch.device("cpu"))
    assert (again.seed_pcm_iters, again.config["prototype"]) == (0, structure)
    del again.config["seed_pcm_iters"]
    assert SfcNetwork(**again.config).seed_pcm_iters is None


def test_images_smaller_than_the_stride_have_one_cell():
    assert network().eval().infer(images(1, 5, 1), LABELS[:1], flip=True, mask_absent=False).shape[3:] == (1, 1)


def test_file_round_trip_has_equal_bytes_and_results(tmp_path):
    net = network().eval()
    for name in ("a", "b"):
        save_cam_network(net, tmp_path / name, method="sfc", classes=("a", "b", "c"), params={})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    again = load_cam_network(tmp_path / "a", torch.device("cpu"))
    kwargs = {"flip": True, "mask_absent": True}
    assert all(torch.equal(value, net.state_dict()[name]) for name, value in again.state_dict().items())
    # the loaded one is channels last: the same up to rounding
    torch.testing.assert_close(again.infer(images(), LABELS, **kwargs), net.infer(images(), LABELS, **kwargs))


def test_a_missing_file_is_one_clear_line(tmp_path):
    with pytest.raises(UserError, match="run the stage train_cam first"):
        load_cam_network(tmp_path / "none.safetensors", torch.device("cpu"))
