"""SFC, Shared Feature Calibration (Zhao et al. 2024)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from sfc.config_types import Fraction, Positive, Section


class SfcPrototype(Section):
    """Which pixels a class prototype averages, Eq. 3."""

    mode: Literal["argmax", "threshold"]
    bkg_scale: Positive  # background channel times this before the argmax
    threshold: Fraction  # only for mode threshold


class SfcParams(Section):
    """What method sfc alone reads."""

    pcm_iters: Annotated[int, Field(ge=0)]  # 0: no pixel correlation
    bkg_before_pcm: bool
    proto_norm: Literal["max", "none"]
    prototype: SfcPrototype
