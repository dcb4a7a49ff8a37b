"""DeepLabV2 (Chen et al., 2018) on the shared trunk: output stride 8 and an ASPP head, seen at several scales.

Constants of the public PyTorch implementation (kazuto1011/deeplab-pytorch), but for the trunk: torchvision's ResNet
strides in the 3x3 convolutions, so that its ImageNet weights fit, where Caffe's strides in the first 1x1.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfc.segmentation.trunk import build_trunk, freeze_batch_norm


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling: the sum of one biased 3x3 convolution to the classes per rate."""

    def __init__(self, channels: int, num_classes: int, rates: Sequence[int]):
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Conv2d(channels, num_classes, 3, padding=rate, dilation=rate) for rate in rates
        )
        for branch in self.branches:
            nn.init.normal_(branch.weight, std=0.01)
            nn.init.zeros_(branch.bias)

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) to logits (B, K, h, w), at least float32 even under autocast."""
        return sum(dilated_3x3(features, branch) for branch in self.branches)


def dilated_3x3(features: Tensor, branch: nn.Conv2d) -> Tensor:
    """What `branch` gives, as one matrix product to K * 9 channels and the shifted sum of these, for K << C.

    (B, C, h, w) to (B, K, h, w). A dilated convolution to few channels is 10 times slower on a CPU.
    """
    taps = branch.weight.flip(2, 3).permute(0, 2, 3, 1).flatten(0, 2)  # (K * 9, C): fold scatters, so mirrored
    columns = F.conv2d(features, taps[:, :, None, None]).flatten(2)
    columns = columns.to(torch.promote_types(columns.dtype, torch.float32))
    logits = F.fold(columns, features.shape[2:], 3, dilation=branch.dilation, padding=branch.padding)
    return logits + branch.bias[:, None, None]


class DeepLabV2(nn.Module):
    """Trunk of output stride 8 and ASPP.

    Args:
        arch: resnet18, resnet34, resnet50, resnet101 or wideresnet38.
        num_classes: K, background included.
        atrous_rates: of the ASPP branches.
        image_scale: images are resized by this before the network, in training and at inference; only kept here.
        frozen_stages, batch_norm: as for Backbone, except that "frozen" batch norms keep their scale and shift too.
    """

    align_corners = False  # how its logits are resized
    full_size_loss = False  # labels shrink to the logits' size

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
            "arch": arch,
            "num_classes": num_classes,
            "atrous_rates": list(atrous_rates),
            "image_scale": image_scale,
        }
        self.num_classes = num_classes
        self.image_scale = image_scale
        self.backbone = build_trunk(arch, frozen_stages=frozen_stages, batch_norm=batch_norm)
        self.aspp = ASPP(self.backbone.channels[-1], num_classes, atrous_rates)
        if batch_norm == "frozen":
            freeze_batch_norm(self.backbone)

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images (B, 3, H, W) to logits (B, K, ceil(H / 8), ceil(W / 8)), float32 under autocast too."""
        return self.aspp(self.backbone(images)[-1])

    def parameter_groups(self, *, lr: float, head_lr_scale: float, weight_decay: float) -> list[dict]:
        """For the optimiser: the trunk at `lr`, ASPP weights at `head_lr_scale` times it, its biases at twice that."""
        head = list(self.aspp.branches)
        return [
            {"params": list(self.backbone.parameters()), "lr": lr, "weight_decay": weight_decay},
            {"params": [b.weight for b in head], "lr": lr * head_lr_scale, "weight_decay": weight_decay},
            {"params": [b.bias for b in head], "lr": lr * head_lr_scale * 2, "weight_decay": 0.0},
        ]
