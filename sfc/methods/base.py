"""Base: the classifier alone, refined by pixel correlation."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from sfc.config_types import Section


class BaseParams(Section):
    """What method base alone reads."""

    pcm_iters: Annotated[int, Field(ge=0)]  # 0: no pixel correlation
    bkg_before_pcm: bool
