"""A model of timm as a trunk. timm is an optional dependency, so it is imported only where a model of it is wanted."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from types import ModuleType

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from sfc.backbone.trunk import Trunk
from sfc.errors import UserError, nearest

TIMM = "timm/"  # in front of the names of its models
_LEVELS = 4  # beside the stem


class TimmTrunk(Trunk):
    """A model of timm without its classifier.

    Convolutional models keep their own levels, with timm's dilations in place of the strides beyond `output_stride`
    (at 16 its last level dilates, which that of `Backbone` does not). A stem that ends at stride 2 is max-pooled 3x3
    to stride 4, as a ResNet goes on itself; where timm has no map before the first level (ConvNeXt), that level's map
    stands for the stem, too. In a vision transformer every map has the stride of the patches: its levels are the
    blocks at each quarter of its depth, under its last layer norm, as DINOv2's own code gives them.

    Images are padded on the right and below to a multiple of the largest stride: some models would drop what is over.

    Args:
        arch: timm/NAME; NAME may end in timm's tag of the weights, as in timm/convnext_tiny.fb_in22k.
        output_stride, stem_stride: see `sfc.backbone.build_trunk`.
        frozen_stages, batch_norm: see `Trunk`. Layer norms have no statistics; they learn outside frozen stages.

    Raises:
        UserError: timm is not installed or has no such model, or the model cannot give features at these strides.
    """

    def __init__(
        self, *, arch: str, output_stride: int, frozen_stages: int, batch_norm: str, stem_stride: int | None = None
    ):
        super().__init__()
        self.arch, self.frozen_stages, self.batch_norm = arch, frozen_stages, batch_norm
        self.model = _create(arch, output_stride)
        info = list(self.model.feature_info)
        self._same_strides = info[0]["reduction"] == info[-1]["reduction"]
        self._indices = _level_indices(len(info), self._same_strides)
        taken = [info[index] for index in self._indices]
        strides = [level["reduction"] for level in taken]
        self._largest = max(strides)
        self._pools_stem = len(taken) > _LEVELS and strides[0] == 2
        _check_strides(arch, 4 if self._pools_stem else strides[0], self._largest, output_stride, stem_stride)
        channels = [level["num_chs"] for level in taken]
        self.channels = tuple(channels if len(channels) > _LEVELS else channels[:1] + channels)
        self.mean, self.std = (tuple(map(float, self.model.pretrained_cfg[name])) for name in ("mean", "std"))
        keep = {"norm"} if self._same_strides else set()
        self._dropped = _drop_classifier(self.model, taken[-1]["module"], keep=keep)
        self._stage_of = _stages(self.model, [level["module"] for level in taken])
        for name, parameter in self.model.named_parameters():
            if self._stage_of[name.rpartition(".")[0]] < frozen_stages:
                parameter.requires_grad_(False)  # images have no gradient: where parameters have none, nothing records

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) float, normalised, to five (B, C_i, H_i, W_i), see `Trunk`."""
        height, width = images.shape[2:]
        padded = F.pad(images, (0, -width % self._largest, 0, -height % self._largest))
        stem, *levels = self.model.forward_intermediates(
            padded, indices=self._indices, norm=self._same_strides, intermediates_only=True
        )
        if len(levels) < _LEVELS:
            return [stem, stem, *levels]
        return [F.max_pool2d(stem, 3, stride=2, padding=1) if self._pools_stem else stem, *levels]

    def train(self, mode: bool = True) -> TimmTrunk:
        super().train(mode)
        for name, module in self.model.named_modules():
            keeps_statistics = isinstance(module, _BatchNorm) and self.batch_norm == "frozen"
            if keeps_statistics or self._stage_of[name] < self.frozen_stages:
                module.training = False
        return self

    def part_of(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """This trunk's part of a state dict of the whole model with timm's keys, or of one of this trunk."""
        own = {key.removeprefix("model."): value for key, value in state.items()}
        return {f"model.{key}": value for key, value in own.items() if key.split(".")[0] not in self._dropped}


def pretrained_state(trunk: TimmTrunk) -> dict[str, Tensor]:
    """The weights timm downloads for the model's name, with timm's keys; raises UserError if it cannot."""
    name = trunk.arch.removeprefix(TIMM)
    try:
        return _timm(trunk.arch).create_model(name, pretrained=True).state_dict()
    except Exception as error:  # a download fails in the classes of whichever library made it
        raise UserError(
            f"backbone.weights: timm gives no weights of {name} ({' '.join(str(error).split())}); "
            "give the path of a file with them, or none"
        ) from None


def _timm(arch: str) -> ModuleType:
    try:
        import timm
    except ImportError:
        raise UserError(
            f"backbone.arch: {arch} needs the package timm, this project's extra of that name; "
            "pip install '.[timm]' installs it"
        ) from None
    return timm


def _create(arch: str, output_stride: int) -> nn.Module:
    timm, name = _timm(arch), arch.removeprefix(TIMM)
    if not timm.is_model(name):
        hint = nearest(name, timm.list_models(), otherwise="timm.list_models() names them", prefix=TIMM)
        raise UserError(f"backbone.arch: timm {timm.__version__} has no model {name}{hint}")
    for settings in ({"output_stride": output_stride}, {"dynamic_img_size": True}):
        try:
            model = timm.create_model(name, pretrained=False, **settings)
        except (TypeError, AssertionError):  # families refuse settings they do not know with either
            continue
        except RuntimeError as error:
            raise UserError(f"backbone.arch: {arch}: {error}") from None
        if hasattr(model, "forward_intermediates") and len(getattr(model, "feature_info", ())) >= _LEVELS:
            return model
    raise UserError(
        f"backbone.arch: {arch} gives no features of {_LEVELS} levels at a chosen stride for images of any size; "
        "name a ConvNeXt, ResNeXt or RegNet, or a ViT for the CAM network"
    )


def _level_indices(maps: int, same_strides: bool) -> list[int]:
    """Which of a model's maps are taken: the last of stem and four levels, or the blocks at each quarter."""
    if same_strides:
        return [(quarter + 1) * maps // _LEVELS - 1 for quarter in range(_LEVELS)]
    return list(range(max(0, maps - _LEVELS - 1), maps))


def _check_strides(arch: str, stem: int, largest: int, output_stride: int, stem_stride: int | None) -> None:
    if largest > output_stride:
        raise UserError(
            f"backbone.arch: {arch} has features of stride {largest}, and this network needs {output_stride}; "
            "name a ConvNeXt, ResNeXt or RegNet, or a ResNet"
        )
    if stem_stride not in (None, stem):
        raise UserError(
            f"backbone.arch: {arch} has features of stride {stem} and no finer ones, and this network needs "
            f"{stem_stride}; name a ConvNeXt, ResNeXt or RegNet, or a ResNet"
        )


def _drop_classifier(model: nn.Module, last: str, *, keep: set[str]) -> set[str]:
    """Drop what follows the module `last`, which would be saved and get no gradient; returns the names dropped."""
    names = [name for name, _ in model.named_children()]
    dropped = set(names[names.index(last.split(".")[0]) + 1 :]) - keep
    for name in dropped:
        setattr(model, name, nn.Identity())
    return dropped


def _stages(model: nn.Module, levels: Sequence[str]) -> dict[str, int]:
    """Each module's stage, 0 for the stem: timm defines modules in the order in which they run.

    Args:
        levels: names of the modules that end each of five stages, or of four where none ends the stem.
    """
    names = [name for name, _ in model.named_modules()]
    ends = [max(i for i, name in enumerate(names) if f"{name}.".startswith(f"{level}.")) for level in levels]
    if len(ends) == _LEVELS:  # the stem is all before the list of levels
        ends = [names.index(levels[0].split(".")[0]) - 1, *ends]
    return {name: min(bisect_left(ends, position), _LEVELS) for position, name in enumerate(names)}
