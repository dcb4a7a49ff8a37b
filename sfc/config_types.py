"""What the sections of params.yaml are made of: their base, number ranges, and the backbone several of them have."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag
from pydantic_core import PydanticCustomError

# upper limits are far beyond what makes sense: they catch slips before something overflows
Positive = Annotated[float, Field(gt=0, le=1e12, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)]
OneOrEach = Annotated[  # one for all kinds of CAM, or kind -> its own
    Annotated[Positive, Tag("one")] | Annotated[dict[str, Positive], Tag("each")],
    Discriminator(lambda value: "each" if isinstance(value, dict) else "one"),
]
Fraction = Annotated[float, Field(ge=0, le=1)]
NegativeShare = Fraction | None  # of a batch that shows no class; null: as many as in the data set
Whole = Annotated[int, Field(ge=0, le=10**9)]
Count = Annotated[int, Field(ge=1, le=10**9)]
Rounds = Annotated[int, Field(ge=1, le=10_000)]  # of one computation on an image, which shows no progress meanwhile
Products = Annotated[int, Field(ge=0, le=10_000)]  # with the pixel correlation, one after the other
# Pixels closer than this are partners; below 2 there are none. At 32 each has 1,600 partners: a walk over an image of
# 1,024 x 1,024 takes 10 GB, and to find the paths alone takes minutes. Both grow with the square or more.
Radius = Annotated[int, Field(ge=2, le=32)]
Side = Annotated[int, Field(ge=16, le=16_384)]  # of an image in pixels: at least one cell of a trunk
Width = Annotated[
    float, Field(ge=0.1, le=1e6, allow_inf_nan=False)
]  # of a CRF's kernel; far narrower ones crash pydensecrf
Scale = Annotated[float, Field(gt=0, le=16)]  # of an image
Seed = Annotated[int, Field(ge=0, lt=2**64)]
Precision = Literal["fp32", "bf16"]
Scales = Annotated[tuple[Scale, ...], Field(min_length=1)]


def _each_once(values: tuple) -> tuple:
    for value in values:
        if values.count(value) > 1:
            raise PydanticCustomError("twice", "{message}", {"message": f"{value} comes twice; remove one"})
    return values


EachOnce = AfterValidator(_each_once)
DistinctScales = Annotated[Scales, EachOnce]  # that all are used, each for a share of the result


class Section(BaseModel):
    """A group of params. A validator of a whole section raises ValueError("PARAM: what is wrong with it")."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


RESNETS = ("resnet18", "resnet18_half", "resnet34", "resnet50", "resnet101")
_TIMM_NAME = re.compile(r"timm/[A-Za-z0-9_][A-Za-z0-9_.-]*")


def one_of(*names: str) -> AfterValidator:
    """Checks that a trunk's name is one of `names` or timm/NAME; which models timm has, the stage finds out."""

    def known(arch: str) -> str:
        if arch in names or _TIMM_NAME.fullmatch(arch):
            return arch
        raise PydanticCustomError("arch", "{message}", {"message": f"input should be {', '.join(names)} or timm/NAME"})

    return AfterValidator(known)


class Backbone(Section):
    arch: Annotated[str, one_of(*RESNETS)]
    # none: random; a torchvision weights name (ResNet50_Weights.IMAGENET1K_V1); timm: those timm has for its model's
    # name; a file; cam: out/cam.safetensors
    weights: str
    frozen_stages: Annotated[int, Field(ge=0, le=5)]  # leading stages without gradient: stem, layer1 .. layer4
    batch_norm: Literal["frozen", "train"]


def check_share(share: float | None, batch_size: int) -> None:
    """Raise ValueError unless `share` of a batch, where one is given, is none or some whole images, but not all."""
    if share and not 0 < round(share * batch_size) < batch_size:
        least, most = (f"{images / batch_size:.2g}" for images in (1, batch_size - 1))
        raise ValueError(
            f"negative_share: {share} of a batch of {batch_size} must be some images, but not all: {least} to {most}, "
            "0 for none, null for as many as there are"
        )


def check_ascending(param: str, limits: tuple[float, float]) -> None:
    """Raise ValueError unless `limits` are [smallest, largest]."""
    low, high = limits
    if low > high:
        raise ValueError(f"{param}: [{low}, {high}] must be [smallest, largest]")
