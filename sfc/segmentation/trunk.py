"""The trunks of the segmentation models: those of all networks, and the wide ResNet, at output stride 8."""

from __future__ import annotations

from torch import nn

from sfc.backbone import Trunk, build_trunk, load_backbone_weights
from sfc.segmentation.wide_resnet import WideResNet38, load_wide_weights


def build_seg_trunk(arch: str, *, frozen_stages: int, batch_norm: str) -> Trunk:
    """An untrained trunk of output stride 8: wideresnet38, or a name `build_trunk` knows; raises UserError as that."""
    if arch == "wideresnet38":
        return WideResNet38(frozen_stages=frozen_stages, batch_norm=batch_norm)
    return build_trunk(arch, output_stride=8, frozen_stages=frozen_stages, batch_norm=batch_norm)


def load_trunk_weights(trunk: Trunk, weights: str) -> None:
    """Fill `trunk` in place, see `load_backbone_weights` and `load_wide_weights`; raises UserError as they do."""
    load = load_wide_weights if isinstance(trunk, WideResNet38) else load_backbone_weights
    load(trunk, weights)


def freeze_batch_norm(trunk: nn.Module) -> None:
    """Let the scale and shift of every batch norm keep their values, as their statistics do."""
    for module in trunk.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.requires_grad_(False)
