"""The shared ResNet trunk: torchvision's definition, five stages, chosen strides, dilations and frozen stages."""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Sequence
from pathlib import Path

import torch
import torchvision
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from sfc.errors import UserError

PREFIX = "backbone."  # of the trunk's keys in the files this project writes
CLASSIFIERS = ("fc.", "fc8.", "linear1000.")  # keys beside a trunk's in public weights files


class Backbone(nn.Module):
    """ResNet without its classifier.

    Args:
        arch: resnet18, resnet34, resnet50 or resnet101.
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
        net = torchvision.models.get_model(arch, weights=None)
        self.conv1, self.bn1, self.relu, self.maxpool = net.conv1, net.bn1, net.relu, net.maxpool
        self.layer1, self.layer2, self.layer3, self.layer4 = net.layer1, net.layer2, net.layer3, net.layer4
        self.channels = (64, *(64 * 2**i * net.layer1[0].expansion for i in range(4)))
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


def fold_batch_norm(backbone: Backbone) -> Backbone:
    """Fold every batch norm's running statistics into the convolution before it, in place, for faster inference.

    Returns:
        The same backbone; it must not be trained or saved any more. Features change by float rounding only.
    """
    for module in list(backbone.modules()):
        names = list(module._modules)
        for conv, norm in itertools.pairwise(names):
            parts = module._modules
            if isinstance(parts[conv], nn.Conv2d) and isinstance(parts[norm], nn.BatchNorm2d):
                parts[conv] = fuse_conv_bn_eval(parts[conv].eval(), parts[norm].eval())
                parts[norm] = nn.Identity()
    return backbone


def load_backbone_weights(backbone: Backbone, weights: str) -> None:
    """Fill `backbone` in place.

    Args:
        weights: "none" keeps the random start; a torchvision name such as `ResNet50_Weights.IMAGENET1K_V1`
            (downloaded and cached by torchvision); or the path of a safetensors or torch file with torchvision's
            keys, or one written by this project (keys under "backbone."). Torch files are read without unpickling
            code; half-precision weights are widened to float32.

    Raises:
        UserError: no such file or name, or keys or shapes that do not fit the architecture.
    """
    if weights == "none":
        return
    state = _read_weights(weights)
    if any(key.startswith(PREFIX) for key in state):
        state = {key.removeprefix(PREFIX): value for key, value in state.items() if key.startswith(PREFIX)}
    state = {key: value.float() if value.is_floating_point() else value for key, value in state.items()}
    state = {key: value for key, value in state.items() if not key.startswith(CLASSIFIERS)}
    wanted = backbone.state_dict()
    missing = [k for k in wanted if k not in state and not k.endswith("num_batches_tracked")]
    wrong = [k for k in state if k not in wanted or wanted[k].shape != state[k].shape]
    if missing or wrong:
        what = f"lacks {missing[0]}" if missing else f"has {wrong[0]}, which does not fit"
        raise UserError(
            f"{weights}: {what} ({len(missing)} keys missing, {len(wrong)} unfitting); "
            "is it for the architecture named in backbone.arch?"
        )
    backbone.load_state_dict(state, strict=False)


def _read_weights(weights: str) -> dict[str, Tensor]:
    path = Path(weights)
    if path.suffix == ".safetensors" or path.exists():
        if not path.exists():
            raise UserError(f"{weights}: no such weights file; put it there or set backbone.weights to none")
        try:
            if path.suffix == ".safetensors":
                state = load_file(path)
            else:
                state = torch.load(path, map_location="cpu", weights_only=True)
        except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError) as error:
            raise UserError(f"{weights}: cannot be read as weights ({str(error).splitlines()[0]})") from None
        if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
            raise UserError(f"{weights}: holds more than named tensors; save the model's state_dict alone")
        return state
    try:
        return torchvision.models.get_weight(weights).get_state_dict(progress=False, check_hash=True)
    except (ValueError, KeyError, AttributeError):
        raise UserError(
            f"backbone.weights: {weights} is neither a file nor a torchvision weights name "
            "(such as ResNet50_Weights.IMAGENET1K_V1)"
        ) from None
    except OSError as error:
        raise UserError(
            f"backbone.weights: {weights} could not be downloaded ({error}); "
            "fetch it on another machine and give the file's path instead"
        ) from None
