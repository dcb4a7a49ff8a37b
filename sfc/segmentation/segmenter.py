"""What the segmentation models have in common: a trunk of output stride 8, and the rates at which their parts learn."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import nn

from sfc.backbone import Trunk, build_trunk, load_backbone_weights
from sfc.segmentation.wide_resnet import WideResNet38, load_wide_weights


class Segmenter(nn.Module, ABC):
    """A trunk, `backbone`, which a subclass gives a head.

    Args:
        arch: wideresnet38, or a name for `sfc.backbone.build_trunk`.
        num_classes: K, background included.
        atrous_rates: dilations of the head.
        image_scale: images are resized by this before the network, in training and at inference; only kept here.
        frozen_stages, batch_norm: as for Trunk, except that "frozen" batch norms keep their scale and shift too.
    """

    name: str  # of the model, as params and files have it
    align_corners: bool  # how its logits are resized
    full_size_loss: bool  # whether logits grow to the labels' size in training, or labels shrink to the logits'

    def __init__(
        self,
        *,
        arch: str,
        num_classes: int,
        atrous_rates: Sequence[int],
        image_scale: float,
        frozen_stages: int = 0,
        batch_norm: str = "frozen",
    ):
        super().__init__()
        self.config = {
            "model": self.name,
            "arch": arch,
            "num_classes": num_classes,
            "atrous_rates": list(atrous_rates),
            "image_scale": image_scale,
        }
        self.num_classes = num_classes
        self.image_scale = image_scale
        self.backbone = _trunk(arch, frozen_stages=frozen_stages, batch_norm=batch_norm)
        if batch_norm == "frozen":
            _freeze_batch_norm(self.backbone)

    @abstractmethod
    def head(self) -> list[nn.Conv2d]:
        """The convolutions of the head, which learn faster than the trunk."""

    def parameter_groups(self, *, lr: float, head_lr_scale: float, weight_decay: float) -> list[dict]:
        """For the optimiser: the trunk at `lr`, head weights at `head_lr_scale` times it, its biases at twice that."""
        head = self.head()
        biases = [convolution.bias for convolution in head if convolution.bias is not None]
        return [
            {"params": list(self.backbone.parameters()), "lr": lr, "weight_decay": weight_decay},
            {"params": [c.weight for c in head], "lr": lr * head_lr_scale, "weight_decay": weight_decay},
            {"params": biases, "lr": lr * head_lr_scale * 2, "weight_decay": 0.0},
        ]


def _trunk(arch: str, *, frozen_stages: int, batch_norm: str) -> Trunk:
    """An untrained trunk of output stride 8: wideresnet38, or a name `build_trunk` knows; raises UserError as that."""
    if arch == "wideresnet38":
        return WideResNet38(frozen_stages=frozen_stages, batch_norm=batch_norm)
    return build_trunk(arch, output_stride=8, frozen_stages=frozen_stages, batch_norm=batch_norm)


def load_trunk_weights(trunk: Trunk, weights: str) -> None:
    """Fill `trunk` in place, see `load_backbone_weights` and `load_wide_weights`; raises UserError as they do."""
    load = load_wide_weights if isinstance(trunk, WideResNet38) else load_backbone_weights
    load(trunk, weights)


def _freeze_batch_norm(trunk: nn.Module) -> None:
    """Let the scale and shift of every batch norm keep their values, as their statistics do."""
    for module in trunk.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.requires_grad_(False)
