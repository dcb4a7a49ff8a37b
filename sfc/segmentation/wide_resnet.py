"""The wide ResNet of Wu et al. 2016 (ResNet38-A1) at output stride 8, the trunk of PSA, SEAM and the R38 rows."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfc.backbone import Trunk, load_backbone_weights
from sfc.errors import UserError
from sfc.segmentation.dropout import Dropout

_BN_MOMENTUM = 3e-4  # public implementation; of running statistics, where batch norm learns at all


class Block(nn.Module):
    """Two 3x3 convolutions with batch norm and ReLU before each (pre-activation).

    Parameters have the names of the public PyTorch conversion of the MXNet weights. Where the shape changes, a 1x1
    convolution of the activated input is the shortcut.

    Args:
        channels: of the input, between the convolutions, and of the output.
        dilations: of the two convolutions.
    """

    def __init__(self, channels: tuple[int, int, int], *, stride: int = 1, dilations: tuple[int, int] = (1, 1)):
        super().__init__()
        before, between, after = channels
        first, second = dilations
        self.bn_branch2a = nn.BatchNorm2d(before, momentum=_BN_MOMENTUM)
        self.conv_branch2a = nn.Conv2d(before, between, 3, stride, padding=first, dilation=first, bias=False)
        self.bn_branch2b1 = nn.BatchNorm2d(between, momentum=_BN_MOMENTUM)
        self.conv_branch2b1 = nn.Conv2d(between, after, 3, padding=second, dilation=second, bias=False)
        if before != after or stride != 1:
            self.conv_branch1 = nn.Conv2d(before, after, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, before, H, W) to (B, after, ceil(H / stride), ceil(W / stride))."""
        activated = F.relu(self.bn_branch2a(x))
        shortcut = self.conv_branch1(activated) if hasattr(self, "conv_branch1") else x
        inner = F.relu(self.bn_branch2b1(self.conv_branch2a(activated)))
        return shortcut + self.conv_branch2b1(inner)


class Bottleneck(nn.Module):
    """Convolutions 1x1, 3x3, 1x1 through a quarter and a half of the output's channels, with dropout between them.

    Args:
        channels: of input and output.
        dilation: of the 3x3 convolution.
        dropout: probability with which a channel between the convolutions is dropped in training.
    """

    def __init__(self, channels: tuple[int, int], *, dilation: int, dropout: float):
        super().__init__()
        before, after = channels
        self.bn_branch2a = nn.BatchNorm2d(before, momentum=_BN_MOMENTUM)
        self.conv_branch2a = nn.Conv2d(before, after // 4, 1, bias=False)
        self.bn_branch2b1 = nn.BatchNorm2d(after // 4, momentum=_BN_MOMENTUM)
        self.dropout_2b1 = Dropout(dropout, whole_channels=True)
        self.conv_branch2b1 = nn.Conv2d(after // 4, after // 2, 3, padding=dilation, dilation=dilation, bias=False)
        self.bn_branch2b2 = nn.BatchNorm2d(after // 2, momentum=_BN_MOMENTUM)
        self.dropout_2b2 = Dropout(dropout, whole_channels=True)
        self.conv_branch2b2 = nn.Conv2d(after // 2, after, 1, bias=False)
        self.conv_branch1 = nn.Conv2d(before, after, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, before, H, W) to (B, after, H, W)."""
        activated = F.relu(self.bn_branch2a(x))
        inner = self.dropout_2b1(F.relu(self.bn_branch2b1(self.conv_branch2a(activated))))
        inner = self.dropout_2b2(F.relu(self.bn_branch2b2(self.conv_branch2b1(inner))))
        return self.conv_branch1(activated) + self.conv_branch2b2(inner)


class WideResNet38(Trunk):
    """Thirty-eight layers, channels up to 4096, output stride 8.

    Args:
        frozen_stages: this many of the leading stages get no gradient and run without autograd: conv1a (the public
            recipe freezes it alone), b2, b3, b4, and all from b5 on.
        batch_norm: "frozen" uses the running statistics, "train" the batch's outside frozen stages.
        width: channels of conv1a; 64 but in tests.
    """

    def __init__(self, *, frozen_stages: int, batch_norm: str, width: int = 64):
        super().__init__()
        w = width
        self.conv1a = nn.Conv2d(3, w, 3, padding=1, bias=False)
        self._groups = [
            ["conv1a"],
            self._add("b2", 3, (w, 2 * w, 2 * w), stride=2),
            self._add("b3", 3, (2 * w, 4 * w, 4 * w), stride=2),
            self._add("b4", 6, (4 * w, 8 * w, 8 * w), stride=2),
            [*self._add("b5", 3, (8 * w, 8 * w, 16 * w), dilation=2), "b6", "b7", "bn7"],
        ]
        self.b6 = Bottleneck((16 * w, 32 * w), dilation=4, dropout=0.3)
        self.b7 = Bottleneck((32 * w, 64 * w), dilation=4, dropout=0.5)
        self.bn7 = nn.BatchNorm2d(64 * w, momentum=_BN_MOMENTUM)
        self.channels = (w, 2 * w, 4 * w, 8 * w, 64 * w)
        self.frozen_stages, self.batch_norm = frozen_stages, batch_norm
        for module in self._of_stages(frozen_stages):
            module.requires_grad_(False)

    def _add(
        self, name: str, count: int, channels: tuple[int, int, int], *, stride: int = 1, dilation: int = 1
    ) -> list[str]:
        """Add blocks NAME, NAME_1, ..; the first changes the shape and does not yet dilate. Returns their names."""
        before, between, after = channels
        names = [name, *(f"{name}_{i}" for i in range(1, count))]
        self.add_module(name, Block((before, between, after), stride=stride, dilations=(1, dilation)))
        for following in names[1:]:
            self.add_module(following, Block((after, between, after), dilations=(dilation, dilation)))
        return names

    def _of_stages(self, count: int) -> list[nn.Module]:
        return [self.get_submodule(name) for names in self._groups[:count] for name in names]

    def forward(self, images: Tensor) -> list[Tensor]:
        """Features of the five stages of (B, 3, H, W) normalised images; the last is activated, at stride 8."""
        features = []
        x = images
        for index, names in enumerate(self._groups):
            with torch.set_grad_enabled(torch.is_grad_enabled() and index >= self.frozen_stages):
                for name in names:
                    x = self.get_submodule(name)(x)
            features.append(x)
        return [*features[:-1], F.relu(features[-1])]

    def train(self, mode: bool = True) -> WideResNet38:
        super().train(mode)
        for module in self._of_stages(len(self._groups) if self.batch_norm == "frozen" else self.frozen_stages):
            for part in module.modules():
                if isinstance(part, nn.BatchNorm2d):
                    part.eval()
        for module in self._of_stages(self.frozen_stages):
            module.eval()
        return self


def load_wide_weights(trunk: WideResNet38, weights: str) -> None:
    """Fill `trunk` in place.

    Args:
        weights: "none", or the path of a safetensors or torch file with the keys of the public PyTorch conversion of
            ResNet38-A1 (conv1a.weight, b2.bn_branch2a.weight, .. b5_2.conv_branch2b1.weight, b6 .. bn7), or one
            written by this project; the keys of a classifier are left out.

    Raises:
        UserError: anything else; there are no weights to download, and MXNet's own file cannot be read.
    """
    path = Path(weights)
    if path.suffix == ".params":
        raise UserError(f"{weights}: MXNet's format; convert it to a PyTorch file (keys conv1a.weight .. bn7.bias)")
    if weights != "none" and not path.exists():
        raise UserError(
            f"seg.backbone.weights: no file {weights}; wideresnet38 cannot be downloaded: give the PyTorch conversion "
            "of ResNet38-A1 as a file, or none"
        )
    load_backbone_weights(trunk, weights)
