"""The params sections of the segmentation model, see `sfc.config`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from sfc.config_types import (
    RESNETS,
    Backbone,
    Count,
    DistinctScales,
    NegativeShare,
    NonNegative,
    Positive,
    Precision,
    Rounds,
    Scale,
    Scales,
    Section,
    Seed,
    Side,
    Width,
    check_share,
    one_of,
)


class SegBackbone(Backbone):
    arch: Annotated[str, one_of(*RESNETS, "wideresnet38")]


class Seg(Section):
    """Training of the segmentation model on the pseudo-labels."""

    model: Literal["deeplabv2", "largefov"]
    random_seed: Seed
    backbone: SegBackbone
    precision: Precision
    atrous_rates: Annotated[tuple[Count, ...], Field(min_length=1)]  # of deeplabv2's ASPP; largefov has one
    steps: Count
    batch_size: Count
    negative_share: NegativeShare
    crop: Side
    scales: Scales  # each crop's image is resized by a factor drawn at random:
    scale_draw: Literal["choice", "uniform"]  # one of `scales`, or any number between the two of them
    image_scale: Scale  # every image is resized by this first; 1: photographs at their own size
    hsv_jitter: Annotated[int, Field(ge=0, le=90)]  # largest shift of hue (of 180), saturation and value (of 255)
    train_scales: tuple[Scale, ...]  # further scales of the crop inside the network (MSC); () for none
    loss: Literal["ce", "balanced_ce"]
    lr: Positive
    head_lr_scale: Positive
    momentum: NonNegative
    weight_decay: NonNegative
    power: NonNegative

    @model_validator(mode="after")
    def _fits_together(self) -> Seg:
        check_share(self.negative_share, self.batch_size)
        if self.scale_draw == "uniform" and (len(self.scales) != 2 or self.scales[0] > self.scales[1]):
            raise ValueError(f"scales: {list(self.scales)} must be [smallest, largest] for scale_draw uniform")
        if self.model == "largefov" and len(self.atrous_rates) != 1:
            raise ValueError(f"atrous_rates: {list(self.atrous_rates)} must be one rate for model largefov")
        return self


class PredictCrf(Section):
    """Dense CRF that sharpens predictions; `enabled: false` skips it."""

    enabled: bool
    iterations: Rounds
    gaussian_sxy: Width
    gaussian_compat: NonNegative
    bilateral_sxy: Width
    bilateral_srgb: Width
    bilateral_compat: NonNegative


class Predict(Section):
    split: Literal["train", "val", "test"]
    scales: DistinctScales  # of the image after seg.image_scale
    merge: Literal["max", "mean"]  # of the logits over the scales
    flip: bool
    batch_size: Count
    precision: Precision
    crf: PredictCrf
