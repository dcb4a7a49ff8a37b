"""The trunk of a name, at the stride its network wants."""

from __future__ import annotations

from sfc.backbone.resnet import Backbone
from sfc.backbone.timm_trunk import TIMM, TimmTrunk
from sfc.backbone.trunk import Trunk

_LAYERS = {  # strides and dilations of a ResNet's four layers, by output stride
    16: {"strides": (1, 2, 2, 1), "dilations": (1, 1, 1, 1)},
    8: {"strides": (1, 2, 1, 1), "dilations": (1, 1, 2, 4)},
}


def build_trunk(
    arch: str, *, output_stride: int, frozen_stages: int, batch_norm: str, stem_stride: int | None = None
) -> Trunk:
    """An untrained trunk.

    Args:
        arch: a ResNet, see `Backbone`, or timm/NAME for a model of timm.
        output_stride: 16 or 8, of the last map. A vision transformer has the stride of its patches, which may be
            smaller.
        frozen_stages, batch_norm: see `Trunk`.
        stem_stride: of the first map, where the network needs one: 4.

    Raises:
        UserError: timm is not installed or has no such model, or the model cannot give features at these strides.
    """
    if arch.startswith(TIMM):
        return TimmTrunk(
            arch=arch,
            output_stride=output_stride,
            frozen_stages=frozen_stages,
            batch_norm=batch_norm,
            stem_stride=stem_stride,
        )
    return Backbone(arch=arch, frozen_stages=frozen_stages, batch_norm=batch_norm, **_LAYERS[output_stride])
