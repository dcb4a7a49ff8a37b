"""The ResNet trunk: the one with half of the channels is resnet18 in all else."""

import torch
import torchvision

from sfc.backbone import Backbone


def test_half_of_the_channels_everywhere_but_of_the_image():
    whole = {n: v.shape for n, v in torchvision.models.resnet18().state_dict().items() if not n.startswith("fc.")}
    half = {name: value.shape for name, value in Backbone(arch="resnet18_half").state_dict().items()}
    halved = {name: [3 if size == 3 else size // 2 if i < 2 else size for i, size in enumerate(shape)]
              for name, shape in whole.items()}  # fmt: skip
    assert {name: list(shape) for name, shape in half.items()} == halved


def test_it_starts_as_resnet18_does_and_has_its_maps():
    torch.manual_seed(0)
    trunk = Backbone(arch="resnet18_half").eval()
    for name, weight in trunk.named_parameters():
        if weight.dim() == 4:  # He's start by the fan out, as torchvision's
            fan_out = weight.shape[0] * weight.shape[2] * weight.shape[3]
            assert abs(weight.std() / (2 / fan_out) ** 0.5 - 1) < 0.1, name
    with torch.no_grad():
        maps = trunk(torch.rand(1, 3, 64, 96))
    assert [tuple(m.shape[1:]) for m in maps] == [
        (32, 16, 24), (32, 16, 24), (64, 8, 12), (128, 4, 6), (256, 4, 6)
    ]  # fmt: skip
    assert trunk.channels == (32, 32, 64, 128, 256)
