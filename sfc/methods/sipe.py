"""SIPE (Chen et al. 2022), the method SFC grew out of."""

from __future__ import annotations

from typing import Literal

from sfc.config_types import NonNegative, Positive, Section


class SipePrototype(Section):
    """Which pixels a class prototype averages: the structure-aware seeds."""

    bkg_scale: Positive  # background likeness times this before the argmax


class SipeParams(Section):
    """What method sipe alone reads."""

    prototype: SipePrototype
    infer_feature: Literal["hierarchical", "semantic"]  # what the seeds correlate at inference
    w_gsc: NonNegative  # weight of the general-specific consistency loss
