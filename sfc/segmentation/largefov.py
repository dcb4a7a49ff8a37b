"""DeepLabV1-LargeFOV (Chen et al. 2015) as the weakly supervised literature trains it, on the wide ResNet or a ResNet.

Head and recipe of the public implementation behind SEAM's segmentation results.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from sfc.errors import UserError
from sfc.segmentation.dropout import Dropout
from sfc.segmentation.trunk import build_trunk, freeze_batch_norm

_WIDTH = 512  # channels of the head
_BN_MOMENTUM = 3e-4


class LargeFOV(nn.Module):
    """Trunk of output stride 8, one dilated 3x3 convolution, a 1x1 convolution and the classes.

    The batch norms of the head use the batch's statistics in training; their scale and shift do not learn, as the
    public optimiser is given convolutions only.

    Args:
        arch: wideresnet38, or a ResNet of `sfc.backbone.Backbone`.
        num_classes: K, background included.
        atrous_rates: the dilation, as the only element; 12 in the public implementation.
        image_scale: images are resized by this before the network, in training and at inference; only kept here.
        frozen_stages, batch_norm: of the trunk; "frozen" batch norms keep their scale and shift too.

    Raises:
        UserError: not one rate.
    """

    align_corners = True  # how its logits are resized
    full_size_loss = True  # logits grow to the labels' size, where DeepLabV2's labels shrink

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
        if len(atrous_rates) != 1:
            raise UserError(f"seg.atrous_rates: {list(atrous_rates)}, but largefov has one; set it to [12]")
        self.config = {
            "model": "largefov",
            "arch": arch,
            "num_classes": num_classes,
            "atrous_rates": list(atrous_rates),
            "image_scale": image_scale,
        }
        self.num_classes = num_classes
        self.image_scale = image_scale
        self.backbone = build_trunk(arch, frozen_stages=frozen_stages, batch_norm=batch_norm)
        (rate,) = atrous_rates
        self.conv_fov = nn.Conv2d(self.backbone.channels[-1], _WIDTH, 3, padding=rate, dilation=rate, bias=False)
        self.bn_fov = nn.BatchNorm2d(_WIDTH, momentum=_BN_MOMENTUM).requires_grad_(False)
        self.conv_fov2 = nn.Conv2d(_WIDTH, _WIDTH, 1, bias=False)
        self.bn_fov2 = nn.BatchNorm2d(_WIDTH, momentum=_BN_MOMENTUM).requires_grad_(False)
        self.dropout = Dropout(0.5, whole_channels=False)
        self.classes = nn.Conv2d(_WIDTH, num_classes, 1)
        for convolution in (self.conv_fov, self.conv_fov2, self.classes):
            nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
        if batch_norm == "frozen":
            freeze_batch_norm(self.backbone)

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images (B, 3, H, W) to logits (B, K, ceil(H / 8), ceil(W / 8)), float32 under autocast too."""
        features = F.relu(self.bn_fov(self.conv_fov(self.backbone(images)[-1])))
        features = F.relu(self.bn_fov2(self.conv_fov2(features)))
        return self.classes(self.dropout(features)).float()

    def parameter_groups(self, *, lr: float, head_lr_scale: float, weight_decay: float) -> list[dict]:
        """For the optimiser: the trunk at `lr`, head weights at `head_lr_scale` times it, the bias at twice that."""
        weights = [self.conv_fov.weight, self.conv_fov2.weight, self.classes.weight]
        return [
            {"params": list(self.backbone.parameters()), "lr": lr, "weight_decay": weight_decay},
            {"params": weights, "lr": lr * head_lr_scale, "weight_decay": weight_decay},
            {"params": [self.classes.bias], "lr": lr * head_lr_scale * 2, "weight_decay": 0.0},
        ]
