"""The trunks of the segmentation models: a ResNet or the wide ResNet, at output stride 8."""

from __future__ import annotations

from torch import nn

from sfc.backbone import Backbone, load_backbone_weights
from sfc.segmentation.wide_resnet import WideResNet38, load_wide_weights


def build_trunk(arch: str, *, frozen_stages: int, batch_norm: str) -> Backbone | WideResNet38:
    """An untrained trunk of output stride 8, whose `channels[-1]` are those of the last of the features it returns."""
    if arch == "wideresnet38":
        return WideResNet38(frozen_stages=frozen_stages, batch_norm=batch_norm)
    return Backbone(
        arch=arch,
        strides=(1, 2, 1, 1),
        dilations=(1, 1, 2, 4),
        frozen_stages=frozen_stages,
        batch_norm=batch_norm,
    )


def load_trunk_weights(trunk: Backbone | WideResNet38, weights: str) -> None:
    """Fill `trunk` in place, see `load_backbone_weights` and `load_wide_weights`; raises UserError as they do."""
    load = load_wide_weights if isinstance(trunk, WideResNet38) else load_backbone_weights
    load(trunk, weights)


def freeze_batch_norm(trunk: nn.Module) -> None:
    """Let the scale and shift of every batch norm keep their values, as their statistics do."""
    for module in trunk.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.requires_grad_(False)
