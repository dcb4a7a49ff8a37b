"""DeepLabV2 (Chen et al., 2018) on the shared trunk: output stride 8 and an ASPP head, seen at several scales.

Constants of the public PyTorch implementation (kazuto1011/deeplab-pytorch), but for the trunk: torchvision's ResNet
strides in the 3x3 convolutions, so that its ImageNet weights fit, where Caffe's strides in the first 1x1.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfc.backbone import Backbone
from sfc.model_file import load_model, save_model


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
        arch: resnet18, resnet34, resnet50 or resnet101.
        num_classes: K, background included.
        atrous_rates: of the ASPP branches.
        image_scale: images are resized by this before the network, in training and at inference; only kept here.
        frozen_stages, batch_norm: as for Backbone, except that "frozen" batch norms keep their scale and shift too.
    """

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
        self.backbone = Backbone(
            arch=arch,
            strides=(1, 2, 1, 1),
            dilations=(1, 1, 2, 4),
            frozen_stages=frozen_stages,
            batch_norm=batch_norm,
        )
        self.aspp = ASPP(self.backbone.channels[-1], num_classes, atrous_rates)
        if batch_norm == "frozen":
            for module in self.backbone.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.requires_grad_(False)

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


def pyramid_logits(network: nn.Module, images: Tensor, scales: Sequence[float]) -> list[Tensor]:
    """Logits of `images` (B, 3, H, W) resized by each scale (bilinear, rounded down, at least one pixel)."""
    return [network(_resize(images, [max(1, int(side * scale)) for side in images.shape[2:]])) for scale in scales]


def pixel_max(pyramid: Sequence[Tensor]) -> Tensor:
    """Largest logit over the scales for each class and pixel, at the size of the largest map: (B, K, h, w)."""
    size = max((logits.shape[2:] for logits in pyramid), key=lambda shape: shape[0] * shape[1])
    return torch.stack([_resize(logits, size) for logits in pyramid]).amax(0)


def _resize(maps: Tensor, size: Sequence[int]) -> Tensor:
    if list(maps.shape[2:]) == list(size):
        return maps
    return F.interpolate(maps, size=tuple(size), mode="bilinear", align_corners=False)


def save_segmenter(network: DeepLabV2, path: Path | str) -> None:
    """Write weights and what rebuilds the network to one file."""
    save_model(network, path, config=network.config)


def load_segmenter(path: Path | str, device: torch.device | str) -> DeepLabV2:
    """The network of a file by `save_segmenter`, in evaluation mode on `device`; raises UserError as `load_model`."""
    return load_model(path, lambda config: DeepLabV2(**config), device, stage="train_seg")
