"""LargeFOV: head, loss at the labels' size, optimiser's groups, model file, and training that can be resumed."""

import json

import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open

from sfc.segmentation.largefov import LargeFOV
from sfc.segmentation.models import MODELS, load_segmenter, save_segmenter
from sfc.segmentation.objective import SegmentationObjective
from sfc.training.optim import sgd
from tests.segmentation.test_objective import loss_loop, two_images

MEAN, STD = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))


def make(**options):
    torch.manual_seed(0)
    return LargeFOV(**{"arch": "resnet18", "num_classes": 3, "atrous_rates": (2,), "image_scale": 1.0, **options})


def objective(network=None, seed=0):
    return SegmentationObjective(network or make(), train_scales=(), loss="ce", seed=seed, batch_size=2)


def written_out(network, images):
    """The head one layer after another, with the running statistics it starts with (mean 0, variance 1)."""
    state = network.state_dict()
    x = network.backbone(images)[-1]
    x = F.conv2d(x, state["conv_fov.weight"], padding=2, dilation=2) / (1 + 1e-5) ** 0.5
    x = F.conv2d(x.clamp_min(0), state["conv_fov2.weight"]) / (1 + 1e-5) ** 0.5
    return F.conv2d(x.clamp_min(0), state["classes.weight"], state["classes.bias"])


def test_logits_are_those_of_the_layers_written_out():
    network = make().eval()
    images = torch.randn(2, 3, 41, 17)
    with torch.no_grad():
        found = network(images)
        torch.testing.assert_close(found, written_out(network, images))
        assert found.shape == (2, 3, 6, 3)
        with torch.autocast("cpu", torch.bfloat16):
            assert network(images).dtype == torch.float32


def test_loss_is_at_the_size_of_the_labels():
    network = make().eval()
    batch = two_images()
    images = (batch["image"] / 255 - MEAN) / STD
    images[1, :, :, 28:] = 0
    with torch.no_grad():
        logits = F.interpolate(network(images), size=(36, 36), mode="bilinear", align_corners=True)
        found = objective(network).eval()(batch)["loss"].item()
    assert found == pytest.approx(loss_loop(logits, batch["mask"], "ce"), rel=1e-5)


def test_parameter_groups_hold_every_trainable_parameter_once():
    network = make(frozen_stages=1)
    of = {}
    for group in network.parameter_groups(lr=0.1, head_lr_scale=10.0, weight_decay=0.5):
        for parameter in group["params"]:
            if parameter.requires_grad:
                assert id(parameter) not in of
                of[id(parameter)] = (group["lr"], group["weight_decay"])
    trainable = {name: p for name, p in network.named_parameters() if p.requires_grad}
    assert set(of) == {id(p) for p in trainable.values()}
    for name, parameter in trainable.items():
        wanted = (0.1, 0.5)
        if not name.startswith("backbone"):
            wanted = (2.0, 0.0) if name.endswith("bias") else (1.0, 0.5)
        assert of[id(parameter)] == wanted, name
    assert not any("bn" in name for name in trainable)


def test_head_statistics_learn_and_frozen_trunk_statistics_do_not():
    network = make()
    before = {name: value.clone() for name, value in network.named_buffers()}
    objective(network).train()(two_images())
    changed = {name.split(".")[0] for name, value in network.named_buffers() if not torch.equal(value, before[name])}
    assert changed == {"bn_fov", "bn_fov2"}


def test_saved_model_comes_back(tmp_path):
    network = make(num_classes=4).eval()
    save_segmenter(network, tmp_path / "seg.safetensors", classes=("a", "b", "c"), params={})
    loaded = load_segmenter(tmp_path / "seg.safetensors", "cpu")
    assert type(loaded) is MODELS["largefov"]
    image = torch.randn(1, 3, 20, 30)
    with torch.no_grad():
        torch.testing.assert_close(loaded(image), network(image))
    with safe_open(tmp_path / "seg.safetensors", framework="pt") as file:
        assert json.loads(file.metadata()["sfc"])["network"]["model"] == "largefov"


def trained(steps, resume_at=None, random_seed=0):
    """The model after `steps`, with the rest of the process's random numbers in another state each time."""
    ours = objective()
    optimiser = sgd(ours.network.parameter_groups(lr=1e-3, head_lr_scale=10.0, weight_decay=5e-4), momentum=0.9)
    torch.manual_seed(random_seed)
    ours.train()
    for step in range(steps):
        if step == resume_at:
            state, momentum = ours.state_dict(), optimiser.state_dict()
            ours = objective()
            ours.load_state_dict(state)
            groups = ours.network.parameter_groups(lr=1e-3, head_lr_scale=10.0, weight_decay=5e-4)
            optimiser = sgd(groups, momentum=0.9)
            optimiser.load_state_dict(momentum)
            ours.train()
        optimiser.zero_grad()
        ours(two_images())["loss"].backward()
        optimiser.step()
    return ours.network.state_dict()


def test_training_resumed_ends_with_the_same_model():
    whole, resumed = trained(3), trained(3, resume_at=2, random_seed=1)
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())


def test_dropout_is_that_of_the_seed():
    losses = [objective(seed=seed).train()(two_images())["loss"].item() for seed in (0, 0, 1)]
    assert losses[0] == losses[1] != losses[2]
