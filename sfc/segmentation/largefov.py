"""DeepLabV1-LargeFOV (Chen et al. 2015) as the weakly supervised literature trains it, on the wide ResNet or a ResNet.

Head and recipe of the public implementation behind SEAM's segmentation results.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from sfc.segmentation.dropout import Dropout
from sfc.segmentation.segmenter import Segmenter

_WIDTH = 512  # channels of the head
_BN_MOMENTUM = 3e-4


class LargeFOV(Segmenter):
    """Trunk of output stride 8, one dilated 3x3 convolution, a 1x1 convolution and the classes.

    The batch norms of the head use the batch's statistics in training; their scale and shift do not learn, as the
    public optimiser is given convolutions only.

    Args:
        atrous_rates: the dilation, as the only element; 12 in the public implementation.
        num_classes, trunk: see `Segmenter`.
    """

    name = "largefov"
    align_corners = True
    full_size_loss = True

    def __init__(self, *, num_classes: int, atrous_rates: Sequence[int], **trunk):
        (rate,) = atrous_rates
        super().__init__(num_classes=num_classes, atrous_rates=atrous_rates, **trunk)
        self.conv_fov = nn.Conv2d(self.backbone.channels[-1], _WIDTH, 3, padding=rate, dilation=rate, bias=False)
        self.bn_fov = nn.BatchNorm2d(_WIDTH, momentum=_BN_MOMENTUM).requires_grad_(False)
        self.conv_fov2 = nn.Conv2d(_WIDTH, _WIDTH, 1, bias=False)
        self.bn_fov2 = nn.BatchNorm2d(_WIDTH, momentum=_BN_MOMENTUM).requires_grad_(False)
        self.dropout = Dropout(0.5, whole_channels=False)
        self.classes = nn.Conv2d(_WIDTH, num_classes, 1)
        for convolution in self.head():
            nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images (B, 3, H, W) to logits (B, K, ceil(H / 8), ceil(W / 8)), float32 under autocast too."""
        features = F.relu(self.bn_fov(self.conv_fov(self.backbone(images)[-1])))
        features = F.relu(self.bn_fov2(self.conv_fov2(features)))
        return self.classes(self.dropout(features)).float()

    def head(self) -> list[nn.Conv2d]:
        """The three convolutions, of which only the last has a bias."""
        return [self.conv_fov, self.conv_fov2, self.classes]
