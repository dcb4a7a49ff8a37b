"""The wide ResNet: the public conversion's names and shapes, its layers written out, what is frozen, its weights."""

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

from sfc.errors import UserError
from sfc.segmentation.dropout import start_step
from sfc.segmentation.wide_resnet import WideResNet38, load_wide_weights

# name, channels of input, middle and output, stride, dilations of both 3x3 convolutions; ResNet38-A1 at stride 8
BLOCKS = [
    ("b2", 64, 128, 128, 2, 1, 1),
    *((f"b2_{i}", 128, 128, 128, 1, 1, 1) for i in (1, 2)),
    ("b3", 128, 256, 256, 2, 1, 1),
    *((f"b3_{i}", 256, 256, 256, 1, 1, 1) for i in (1, 2)),
    ("b4", 256, 512, 512, 2, 1, 1),
    *((f"b4_{i}", 512, 512, 512, 1, 1, 1) for i in (1, 2, 3, 4, 5)),
    ("b5", 512, 512, 1024, 1, 1, 2),
    *((f"b5_{i}", 1024, 512, 1024, 1, 2, 2) for i in (1, 2)),
]
SHORTCUTS = ("b2", "b3", "b4", "b5")


def public_shapes():
    shapes = {"conv1a.weight": (64, 3, 3, 3)}

    def norm(name, channels):
        shapes.update({f"{name}.{part}": (channels,) for part in ("weight", "bias", "running_mean", "running_var")})

    for name, before, between, after, *_ in BLOCKS:
        norm(f"{name}.bn_branch2a", before)
        shapes[f"{name}.conv_branch2a.weight"] = (between, before, 3, 3)
        norm(f"{name}.bn_branch2b1", between)
        shapes[f"{name}.conv_branch2b1.weight"] = (after, between, 3, 3)
        if name in SHORTCUTS:
            shapes[f"{name}.conv_branch1.weight"] = (after, before, 1, 1)
    for name, before, after in (("b6", 1024, 2048), ("b7", 2048, 4096)):
        norm(f"{name}.bn_branch2a", before)
        shapes[f"{name}.conv_branch2a.weight"] = (after // 4, before, 1, 1)
        norm(f"{name}.bn_branch2b1", after // 4)
        shapes[f"{name}.conv_branch2b1.weight"] = (after // 2, after // 4, 3, 3)
        norm(f"{name}.bn_branch2b2", after // 2)
        shapes[f"{name}.conv_branch2b2.weight"] = (after, after // 2, 1, 1)
        shapes[f"{name}.conv_branch1.weight"] = (after, before, 1, 1)
    norm("bn7", 4096)
    return shapes


def make(frozen_stages=0, batch_norm="frozen"):
    torch.manual_seed(0)
    trunk = WideResNet38(frozen_stages=frozen_stages, batch_norm=batch_norm, width=2)
    for module in trunk.modules():
        if isinstance(module, nn.BatchNorm2d):  # else a wrong place of one would not show
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.3)
            nn.init.normal_(module.running_mean, std=0.3)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return trunk


def test_names_and_shapes_are_those_of_the_public_conversion():
    with torch.device("meta"):
        state = WideResNet38(frozen_stages=0, batch_norm="frozen").state_dict()
    found = {name: tuple(value.shape) for name, value in state.items() if not name.endswith("num_batches_tracked")}
    assert found == public_shapes()


def written_out(state, x):
    """The layers one after another, from the state alone."""

    def norm(name, x):
        mean, var, weight, bias = (
            state[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
        )
        shape = (1, -1, 1, 1)
        return (x - mean.view(shape)) / (var.view(shape) + 1e-5).sqrt() * weight.view(shape) + bias.view(shape)

    def conv(name, x, **options):
        return F.conv2d(x, state[f"{name}.weight"], **options)

    x = conv("conv1a", x, padding=1)
    for name, *_, stride, first, second in BLOCKS:
        activated = norm(f"{name}.bn_branch2a", x).clamp_min(0)
        short = conv(f"{name}.conv_branch1", activated, stride=stride) if name in SHORTCUTS else x
        inner = conv(f"{name}.conv_branch2a", activated, stride=stride, padding=first, dilation=first)
        inner = norm(f"{name}.bn_branch2b1", inner).clamp_min(0)
        x = short + conv(f"{name}.conv_branch2b1", inner, padding=second, dilation=second)
    for name in ("b6", "b7"):
        activated = norm(f"{name}.bn_branch2a", x).clamp_min(0)
        inner = norm(f"{name}.bn_branch2b1", conv(f"{name}.conv_branch2a", activated)).clamp_min(0)
        inner = conv(f"{name}.conv_branch2b1", inner, padding=4, dilation=4)
        inner = norm(f"{name}.bn_branch2b2", inner).clamp_min(0)
        x = conv(f"{name}.conv_branch1", activated) + conv(f"{name}.conv_branch2b2", inner)
    return norm("bn7", x).clamp_min(0)


@pytest.mark.parametrize("size", [(33, 40), (1, 9)])
def test_features_are_those_of_the_layers_written_out(size):
    trunk = make().double().eval()
    images = torch.randn(2, 3, *size, dtype=torch.float64)
    with torch.no_grad():
        features = trunk(images)
        expected = written_out(trunk.state_dict(), images)
    assert [f.shape[1] for f in features] == list(trunk.channels)
    assert features[-1].shape[2:] == tuple(-(-side // 8) for side in size)
    torch.testing.assert_close(features[-1], expected)


def test_frozen_stages_do_not_learn():
    trunk = make(frozen_stages=1).train()
    start_step(trunk, seed=0, step=0, batch_size=1, device=torch.device("cpu"))
    trunk(torch.randn(1, 3, 16, 16))[-1].sum().backward()
    assert [name for name, p in trunk.named_parameters() if p.grad is None] == ["conv1a.weight"]
    trunk = make(frozen_stages=5).train()
    assert not any(p.requires_grad for p in trunk.parameters())
    assert not any(module.training for module in trunk.b7.modules())  # dropout neither


@pytest.mark.parametrize("batch_norm", ["frozen", "train"])
def test_batch_norm_learns_only_when_told_to(batch_norm):
    trunk = make(frozen_stages=2, batch_norm=batch_norm).train()
    start_step(trunk, seed=0, step=0, batch_size=2, device=torch.device("cpu"))
    before = {name: value.clone() for name, value in trunk.named_buffers()}
    trunk(torch.randn(2, 3, 16, 16))
    changed = {name.split(".")[0] for name, value in trunk.named_buffers() if not torch.equal(value, before[name])}
    assert changed == (
        set() if batch_norm == "frozen" else {n for n, *_ in BLOCKS if n[1] not in "2"} | {"b6", "b7", "bn7"}
    )
    assert trunk.b6.dropout_2b1.training  # whatever batch norm does


def test_the_public_file_loads_without_its_classifier(tmp_path):
    state = {name: value for name, value in make().state_dict().items() if not name.endswith("num_batches_tracked")}
    torch.save({**state, "fc8.weight": torch.zeros(20, 128, 1, 1)}, tmp_path / "a.pth")
    save_file({f"backbone.{name}": value for name, value in state.items()}, tmp_path / "b.safetensors")
    for name in ("a.pth", "b.safetensors"):
        trunk = WideResNet38(frozen_stages=0, batch_norm="frozen", width=2)
        load_wide_weights(trunk, str(tmp_path / name))
        assert all(torch.equal(trunk.state_dict()[key], value) for key, value in state.items())
    before = trunk.conv1a.weight.clone()
    load_wide_weights(trunk, "none")
    assert torch.equal(trunk.conv1a.weight, before)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ("ResNet50_Weights.IMAGENET1K_V1", "wideresnet38 cannot be downloaded: give the PyTorch conversion"),
        ("nothing.pth", "no file nothing.pth"),
        ("ilsvrc-cls_rna-a1_cls1000_ep-0001.params", "MXNet's format; convert it to a PyTorch file"),
    ],
)
def test_weights_that_are_no_file_are_refused_in_one_line(weights, message):
    with pytest.raises(UserError, match=message) as error:
        load_wide_weights(make(), weights)
    assert "\n" not in str(error.value)


def test_weights_of_another_network_are_refused(tmp_path):
    save_file({"conv1.weight": torch.zeros(1)}, tmp_path / "resnet.safetensors")
    with pytest.raises(UserError, match=r"resnet\.safetensors: lacks conv1a\.weight"):
        load_wide_weights(make(), str(tmp_path / "resnet.safetensors"))
