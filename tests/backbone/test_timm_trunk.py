"""Trunks of timm: strides, channels, what learns, and which models are refused in one line."""

import copy
import sys

import pytest
import timm
import torch
from torch import nn

from sfc.backbone import Backbone, build_trunk, fold_batch_norm
from sfc.errors import UserError
from sfc.training import loop

CONVOLUTIONAL = {
    "timm/test_convnext": (24, 24, 32, 48, 64),  # no map before its first level: that level's stands for it
    "timm/regnetx_002": (32, 24, 56, 152, 368),
    "timm/resnext50_32x4d": (64, 256, 512, 1024, 2048),
    "timm/test_efficientnet": (16, 24, 32, 48, 64),
}
WITH_NORM_AND_ACTIVATION = "timm/regnetx_002"  # its batch norms hold the activation that follows


def trunk(arch, output_stride=16, frozen_stages=0, batch_norm="frozen", **options):
    torch.manual_seed(0)
    settings = {"output_stride": output_stride, "frozen_stages": frozen_stages, "batch_norm": batch_norm}
    return build_trunk(arch, **settings, **options)


def images(height=64, width=96):
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(1))


def with_statistics(model):
    """Batch norms that change what they are given, as trained ones do."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -1, 1)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return model


@pytest.mark.parametrize("arch", CONVOLUTIONAL)
@pytest.mark.parametrize(("output_stride", "strides"), [(16, (4, 4, 8, 16, 16)), (8, (4, 4, 8, 8, 8))])
def test_convolutional_trunks_have_the_strides_wanted(arch, output_stride, strides):
    net = trunk(arch, output_stride, stem_stride=4).eval()
    assert net.channels == CONVOLUTIONAL[arch]
    with torch.no_grad():
        features = net(images())
        odd = net(images(41, 70))[-1]
    wanted = [(2, c, 64 // s, 96 // s) for c, s in zip(net.channels, strides, strict=True)]
    assert [feature.shape for feature in features] == wanted
    assert odd.shape[2:] == (-(-41 // output_stride), -(-70 // output_stride))


def test_a_level_stands_for_the_stem_where_there_is_none():
    stem, first, *_ = trunk("timm/test_convnext").eval()(images())
    assert torch.equal(stem, first)


def test_timms_resnet_is_torchvisions_up_to_the_level_that_dilates():
    ours = with_statistics(Backbone(arch="resnet18")).eval()
    theirs = trunk("timm/resnet18").eval()
    theirs.load_state_dict({f"model.{key}": value for key, value in ours.state_dict().items()})
    with torch.no_grad():
        for plain, found in zip(ours(images())[:4], theirs(images())[:4], strict=True):
            torch.testing.assert_close(found, plain)


@pytest.mark.parametrize(("arch", "patch", "width"), [("test_vit", 16, 64), ("vit_small_patch14_dinov2", 14, 384)])
def test_vision_transformer_has_one_stride_and_normalised_levels(arch, patch, width):
    net = trunk(f"timm/{arch}").eval()
    assert net.channels == (width,) * 5
    small = images(30, 50)
    rows, columns = -(-30 // patch), -(-50 // patch)
    padded = torch.zeros(2, 3, rows * patch, columns * patch)
    padded[:, :, :30, :50] = small
    with torch.no_grad():
        features = net(small)
        tokens = net.model.forward_features(padded)[:, net.model.num_prefix_tokens :]
    assert {feature.shape for feature in features} == {(2, width, rows, columns)}
    torch.testing.assert_close(features[-1].flatten(2).transpose(1, 2), tokens)
    assert torch.equal(features[0], features[1])
    assert not torch.equal(features[1], features[2])


def test_vision_transformer_of_small_patches_gives_stride_8():
    assert trunk("timm/vit_small_patch8_224", 8).eval()(images(33, 40))[-1].shape == (2, 384, 5, 5)


@pytest.mark.parametrize("arch", [*CONVOLUTIONAL, "timm/test_vit", "timm/vit_small_patch14_dinov2"])
def test_every_parameter_learns_and_none_of_the_classifier_is_kept(arch):
    net = trunk(arch, batch_norm="train").train()
    sum(feature.square().mean() for feature in net(images())).backward()
    assert [name for name, p in net.named_parameters() if p.grad is None] == []
    assert not [name for name in net.state_dict() if name.startswith(("model.head", "model.fc", "model.classifier"))]


@pytest.mark.parametrize(
    ("arch", "stem", "last"),
    [
        ("timm/regnetx_002", "stem.", "s4."),
        ("timm/test_convnext", "stem.", "stages.3."),
        ("timm/resnext50_32x4d", ("conv1.", "bn1."), "layer4."),
        ("timm/test_vit", ("cls_token", "pos_embed", "patch_embed."), ("blocks.4.", "blocks.5.", "norm.")),
    ],
)
def test_frozen_stages_get_no_gradient(arch, stem, last):
    names = [name for name, _ in trunk(arch).model.named_parameters()]
    for frozen, still in ((0, names), (1, [n for n in names if not n.startswith(stem)]), (5, [])):
        assert [n for n, p in trunk(arch, frozen_stages=frozen).model.named_parameters() if p.requires_grad] == still
    net = trunk(arch, frozen_stages=4)
    assert {n for n, p in net.model.named_parameters() if p.requires_grad} == {n for n in names if n.startswith(last)}
    if arch != "timm/test_vit":  # whose last norm, which learns, is every level's
        assert [feature.requires_grad for feature in net.train()(images())] == [False] * 4 + [True]
    assert not trunk(arch, frozen_stages=5).train()(images())[-1].requires_grad


def norms(net):
    return [(name, m) for name, m in net.model.named_modules() if isinstance(m, nn.BatchNorm2d)]


def test_batch_norm_keeps_its_statistics_where_it_is_frozen():
    for options, learning in (
        ({"batch_norm": "frozen"}, ()),
        ({"batch_norm": "train"}, ("stem", "s1", "s2", "s3", "s4")),
        ({"batch_norm": "train", "frozen_stages": 3}, ("s3", "s4")),
    ):
        net = trunk("timm/regnetx_002", **options).train()
        assert {name.split(".")[0] for name, m in norms(net) if m.training} == set(learning)
        assert not any(m.training for name, m in norms(net.eval()))
    assert trunk("timm/regnetx_002").train().model.training
    assert not norms(trunk("timm/test_convnext", batch_norm="train"))  # layer norms alone: there is nothing to freeze


def test_normalisation_is_the_models_and_no_part_of_the_weights():
    assert (trunk("timm/test_convnext").mean, trunk("timm/test_convnext").std) == ((0.5,) * 3, (0.5,) * 3)
    assert trunk("timm/vit_small_patch14_dinov2").mean == trunk("resnet18").mean == (0.485, 0.456, 0.406)
    clip = trunk("timm/vit_base_patch16_clip_224.openai")  # the tag of the weights decides
    assert clip.mean == timm.get_pretrained_cfg("vit_base_patch16_clip_224.openai").mean != trunk("resnet18").mean
    assert not [name for name in clip.state_dict() if name.endswith(("mean", "std"))]


def test_folding_leaves_timms_batch_norms_alone():
    net = with_statistics(trunk(WITH_NORM_AND_ACTIVATION)).eval()
    folded = fold_batch_norm(copy.deepcopy(net))
    with torch.no_grad():
        assert all(torch.equal(a, b) for a, b in zip(net(images()), folded(images()), strict=True))


def test_synchronised_batch_norm_keeps_timms_activations():
    net = with_statistics(trunk(WITH_NORM_AND_ACTIVATION)).eval()
    plain = copy.deepcopy(net)
    synchronised = loop.synchronised(net)
    assert norms(plain)
    assert not norms(synchronised)  # nn.SyncBatchNorm is no nn.BatchNorm2d
    assert synchronised.state_dict().keys() == plain.state_dict().keys()
    with torch.no_grad():
        assert all(torch.equal(a, b) for a, b in zip(plain(images()), synchronised(images()), strict=True))


@pytest.mark.parametrize(
    ("arch", "options", "message"),
    [
        ("timm/test_convnxt", {}, r"timm [\d.]+ has no model test_convnxt; did you mean timm/test_convnext\?"),
        ("timm/test_convnext.none", {}, r"timm/test_convnext\.none: Invalid pretrained tag \(none\)"),
        ("timm/test_vit", {"output_stride": 8}, "timm/test_vit has features of stride 16, and this network needs 8; "),
        ("timm/vit_small_patch14_dinov2", {"stem_stride": 4}, "stride 14 and no finer ones, and this network needs 4"),
        ("timm/swin_tiny_patch4_window7_224", {}, "has features of stride 32, and this network needs 16; name a Conv"),
        ("timm/densenet121", {}, "densenet121 gives no features of 4 levels at a chosen stride"),
    ],
)
def test_models_that_do_not_fit_are_refused_in_one_line(arch, options, message):
    with pytest.raises(UserError, match=rf"^backbone\.arch: .*{message}") as error:
        trunk(arch, **options)
    assert "\n" not in str(error.value)


def test_without_timm_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UserError, match=r"^backbone\.arch: timm/test_vit needs .* extra .*pip install '\.\[timm\]'"):
        trunk("timm/test_vit")
    trunk("resnet18")
