"""The shared ResNet trunk: torchvision's definition, five stages, chosen strides, dilations and frozen stages."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
import torchvision
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.models.resnet import BasicBlock

from sfc.backbone.trunk import Trunk

HALF = "resnet18_half"


class Backbone(Trunk):
    """ResNet without its classifier.

    Args:
        arch: resnet18, resnet34, resnet50 or resnet101 of torchvision, or resnet18_half with half the channels.
        strides: of layer1 .. layer4; (1, 2, 2, 1) is output stride 16, (1, 2, 1, 1) is 8.
        dilations: of the 3x3 convolutions of layer1 .. layer4.
        frozen_stages: this many leading stages (stem, layer1, .. layer4) get no gradient and run without autograd.
        batch_norm: "frozen" uses the running statistics (scale and shift still learn outside frozen stages),
            "train" the batch's. Frozen stages always use the running statistics.
    """

    def __init__(
        self,
        *,
        arch: str,
        strides: Sequence[int] = (1, 2, 2, 1),
        dilations: Sequence[int] = (1, 1, 1, 1),
        frozen_stages: int = 0,
        batch_norm: str = "frozen",
    ):
        super().__init__()
        net = _HalfResNet18() if arch == HALF else torchvision.models.get_model(arch, weights=None)
        self.conv1, self.bn1, self.relu, self.maxpool = net.conv1, net.bn1, net.relu, net.maxpool
        self.layer1, self.layer2, self.layer3, self.layer4 = net.layer1, net.layer2, net.layer3, net.layer4
        stem = net.conv1.out_channels
        self.channels = (stem, *(stem * 2**i * net.layer1[0].expansion for i in range(4)))
        self.frozen_stages = frozen_stages
        self.batch_norm = batch_norm
        for layer, stride, dilation in zip(self._layers(), strides, dilations, strict=True):
            _set_stride(layer, stride)
            _set_dilation(layer, dilation)
        for stage in self._stages()[:frozen_stages]:
            for module in stage:
                module.requires_grad_(False)

    def _layers(self) -> list[nn.Module]:
        return [self.layer1, self.layer2, self.layer3, self.layer4]

    def _stages(self) -> list[list[nn.Module]]:
        return [[self.conv1, self.bn1, self.relu, self.maxpool], *([layer] for layer in self._layers())]

    def forward(self, images: Tensor) -> list[Tensor]:
        """Features of the five stages.

        Args:
            images: (B, 3, H, W) float, normalised, see `sfc.data.images.normalise`.

        Returns:
            Five (B, C_i, H_i, W_i): stem with max-pooling (stride 4), layer1 .. layer4; C_i = `self.channels[i]`.
        """
        features = []
        x = images
        for index, stage in enumerate(self._stages()):
            with torch.set_grad_enabled(torch.is_grad_enabled() and index >= self.frozen_stages):
                for module in stage:
                    x = module(x)
            features.append(x)
        return features

    def train(self, mode: bool = True) -> Backbone:
        super().train(mode)
        frozen = len(self._stages()) if self.batch_norm == "frozen" else self.frozen_stages
        for stage in self._stages()[:frozen]:
            for module in stage:
                module.eval()
        return self


class _HalfResNet18(torchvision.models.ResNet):
    """32 channels in the stem where resnet18 has 64: a quarter of its products, for small drawn data on a CPU."""

    def __init__(self):
        super().__init__(BasicBlock, [2, 2, 2, 2])
        self.conv1 = nn.Conv2d(3, 32, kernel_size=7, stride=2, padding=3, bias=False)
        nn.init.kaiming_normal_(self.conv1.weight, mode="fan_out", nonlinearity="relu")
        self.bn1 = nn.BatchNorm2d(32)

    def _make_layer(self, block: type[nn.Module], planes: int, blocks: int, *args: object, **kwargs: object):
        if planes == 64:  # the first layer, which takes the stem's map
            self.inplanes = 32
        return super()._make_layer(block, planes // 2, blocks, *args, **kwargs)


def _set_stride(layer: nn.Sequential, stride: int) -> None:
    """Torchvision strides in the 3x3 convolution of a layer's first block and in its shortcut."""
    block = layer[0]
    strided = block.conv2 if hasattr(block, "conv3") else block.conv1
    strided.stride = (stride, stride)
    if block.downsample is not None:
        block.downsample[0].stride = (stride, stride)


def _set_dilation(layer: nn.Sequential, dilation: int) -> None:
    for module in layer.modules():
        if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3):
            module.dilation = module.padding = (dilation, dilation)


def fold_batch_norm(backbone: Trunk) -> Trunk:
    """Fold every batch norm's running statistics into the convolution before it, in place, for faster inference.

    Returns:
        The same trunk; it must not be trained or saved any more. Features change by float rounding only. Other
        trunks than `Backbone` stay as they are: their modules need not run in the order that is relied on here, and
        timm's batch norms hold activations.
    """
    if not isinstance(backbone, Backbone):
        return backbone
    for module in list(backbone.modules()):
        names = list(module._modules)
        for conv, norm in itertools.pairwise(names):
            parts = module._modules
            if isinstance(parts[conv], nn.Conv2d) and isinstance(parts[norm], nn.BatchNorm2d):
                parts[conv] = fuse_conv_bn_eval(parts[conv].eval(), parts[norm].eval())
                parts[norm] = nn.Identity()
    return backbone
