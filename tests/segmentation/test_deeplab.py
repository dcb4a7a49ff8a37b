"""DeepLabV2: the head against loops, the trunk's grid, the optimiser's groups, the model file."""

import json

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import nn

from sfc.backbone import Backbone, load_backbone_weights
from sfc.errors import UserError
from sfc.segmentation.deeplab import ASPP, DeepLabV2, dilated_3x3
from sfc.segmentation.models import load_segmenter, save_segmenter


def make(arch="resnet18", num_classes=3, rates=(1, 2), **options):
    torch.manual_seed(0)
    return DeepLabV2(arch=arch, num_classes=num_classes, atrous_rates=rates, image_scale=1.0, **options)


def aspp_loop(aspp, rates, features):
    """Every tap of every branch, one pixel at a time, with zeros outside the map."""
    batch, _, height, width = features.shape
    out = np.zeros((batch, len(aspp.branches[0].bias), height, width))
    for branch, rate in zip(aspp.branches, rates, strict=True):
        weight, bias = branch.weight.detach().numpy(), branch.bias.detach().numpy()
        for b, y, x in np.ndindex(batch, height, width):
            out[b, :, y, x] += bias
            for i, j in np.ndindex(3, 3):
                yy, xx = y + (i - 1) * rate, x + (j - 1) * rate
                if 0 <= yy < height and 0 <= xx < width:
                    out[b, :, y, x] += weight[:, :, i, j] @ features[b, :, yy, xx].numpy()
    return out


def test_aspp_equals_loops():
    torch.manual_seed(0)
    rates = (1, 2, 5)
    aspp = ASPP(4, 3, rates).double()
    for branch in aspp.branches:
        nn.init.normal_(branch.bias)
    features = torch.randn(2, 4, 6, 5, dtype=torch.float64)
    np.testing.assert_allclose(aspp(features).detach().numpy(), aspp_loop(aspp, rates, features), rtol=1e-12)


@pytest.mark.parametrize("rate", [1, 4, 24])
def test_dilated_3x3_is_the_convolution_and_has_its_gradients(rate):
    torch.manual_seed(0)
    branch = nn.Conv2d(5, 3, 3, padding=rate, dilation=rate).double()
    nn.init.normal_(branch.weight)
    features = torch.randn(2, 5, 7, 6, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(2, 3, 7, 6, dtype=torch.float64)
    results = []
    for layer in (branch, lambda x: dilated_3x3(x, branch)):
        logits = layer(features)
        gradients = torch.autograd.grad((logits * weights).sum(), [features, branch.weight, branch.bias])
        results.append([logits, *gradients])
    for plain, fast in zip(*results, strict=True):
        torch.testing.assert_close(fast, plain)


def test_logits_are_float32_under_autocast():
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        assert make().eval()(torch.randn(1, 3, 16, 16)).dtype == torch.float32


def test_aspp_starts_small_and_unbiased():
    aspp = ASPP(64, 21, (6, 12))
    for branch in aspp.branches:
        assert branch.weight.std().item() == pytest.approx(0.01, rel=0.05)
        assert not branch.bias.any()


@pytest.mark.parametrize("arch", ["resnet18", "resnet34", "resnet50", "resnet101"])
def test_output_stride_is_8(arch):
    network = make(arch).eval()
    with torch.no_grad():
        assert network(torch.randn(1, 3, 41, 17)).shape == (1, 3, 6, 3)


def test_last_two_layers_dilate_instead_of_striding():
    for arch in ("resnet18", "resnet50"):
        trunk = make(arch).backbone
        for layer, dilation in ((trunk.layer1, 1), (trunk.layer2, 1), (trunk.layer3, 2), (trunk.layer4, 4)):
            for conv in (m for m in layer.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)):
                assert conv.dilation == conv.padding == (dilation, dilation)
        assert all(m.stride == (1, 1) for m in trunk.layer4.modules() if isinstance(m, nn.Conv2d))
        assert trunk.layer2[0].downsample[0].stride == (2, 2)


@pytest.mark.parametrize("batch_norm", ["frozen", "train"])
@pytest.mark.parametrize("frozen_stages", [0, 3])
def test_parameter_groups_hold_every_trainable_parameter_once(batch_norm, frozen_stages):
    network = make(batch_norm=batch_norm, frozen_stages=frozen_stages)
    groups = network.parameter_groups(lr=0.1, head_lr_scale=10.0, weight_decay=0.5)
    of = {}
    for group in groups:
        for parameter in group["params"]:
            if parameter.requires_grad:
                assert id(parameter) not in of
                of[id(parameter)] = (group["lr"], group["weight_decay"])
    trainable = {name: p for name, p in network.named_parameters() if p.requires_grad}
    assert set(of) == {id(p) for p in trainable.values()}
    for name, parameter in trainable.items():
        wanted = (0.1, 0.5)
        if name.startswith("aspp"):
            wanted = (2.0, 0.0) if name.endswith("bias") else (1.0, 0.5)
        assert of[id(parameter)] == wanted, name
    learns_norm = any("bn" in name for name in trainable)
    assert learns_norm == (batch_norm == "train")
    assert any(name.startswith("backbone.layer2") for name in trainable) == (frozen_stages == 0)


def test_frozen_batch_norm_keeps_its_statistics():
    network = make().train()
    before = {name: value.clone() for name, value in network.named_buffers()}
    network(torch.randn(2, 3, 32, 32)).sum().backward()
    for name, value in network.named_buffers():
        assert torch.equal(value, before[name]), name


def test_saved_model_comes_back(tmp_path):
    network = make(num_classes=4, rates=(2, 3)).eval()
    path = tmp_path / "seg.safetensors"
    save_segmenter(network, path, classes=("a", "b", "c"), params={})
    loaded = load_segmenter(path, "cpu")
    image = torch.randn(1, 3, 20, 30)
    with torch.no_grad():
        torch.testing.assert_close(loaded(image), network(image))
    assert (loaded.num_classes, loaded.image_scale) == (4, 1.0)
    with safe_open(path, framework="pt") as file:
        assert list(file.metadata()) == ["sfc"]
        facts = json.loads(file.metadata()["sfc"])
    assert facts["network"]["atrous_rates"] == [2, 3]
    assert facts["classes"] == ["a", "b", "c"]
    assert facts["palette"] == [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0]]
    assert (facts["mean"], facts["std"]) == ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    assert facts["image_scale"] == 1.0
    trunk = Backbone(arch="resnet18")
    load_backbone_weights(trunk, str(path))
    assert torch.equal(trunk.conv1.weight, network.backbone.conv1.weight)


def test_a_name_for_each_class(tmp_path):
    with pytest.raises(ValueError, match="1 names for a network of 2 classes"):
        save_segmenter(make(), tmp_path / "seg", classes=("a",), params={})


def test_equal_models_are_equal_bytes(tmp_path):
    for name in "ab":
        network = make().to(memory_format=torch.channels_last)
        save_segmenter(network, tmp_path / name, classes=("a", "b"), params={"seg": {"b": 1, "a": 2}})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_wrong_model_files_are_named(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        load_segmenter(tmp_path / "none.safetensors", "cpu")
    (tmp_path / "bad.safetensors").write_bytes(b"not a model")
    with pytest.raises(UserError, match=r"bad\.safetensors: not what the stage train_seg"):
        load_segmenter(tmp_path / "bad.safetensors", "cpu")
