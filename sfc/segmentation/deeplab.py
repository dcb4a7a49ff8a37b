"""DeepLabV2 (Chen et al., 2018) on the shared trunk: output stride 8 and an ASPP head, seen at several scales.

Constants of the public PyTorch implementation (kazuto1011/deeplab-pytorch), but for the trunk: torchvision's ResNet
strides in the 3x3 convolutions, so that its ImageNet weights fit, where Caffe's strides in the first 1x1.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfc.segmentation.segmenter import Segmenter


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
        if torch.compiler.is_exporting():  # the fold of `dilated_3x3` would be an operator that runs on CPUs alone
            return sum(branch(features) for branch in self.branches)
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


class DeepLabV2(Segmenter):
    """Trunk of output stride 8 and ASPP, a branch for each of `atrous_rates`; arguments as `Segmenter`."""

    name = "deeplabv2"
    align_corners = False
    full_size_loss = False

    def __init__(self, *, num_classes: int, atrous_rates: Sequence[int], **trunk):
        super().__init__(num_classes=num_classes, atrous_rates=atrous_rates, **trunk)
        self.aspp = ASPP(self.backbone.channels[-1], num_classes, atrous_rates)

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images (B, 3, H, W) to logits (B, K, ceil(H / 8), ceil(W / 8)), float32 under autocast too."""
        return self.aspp(self.backbone(images)[-1])

    def head(self) -> list[nn.Conv2d]:
        """The branches of the ASPP."""
        return list(self.aspp.branches)
