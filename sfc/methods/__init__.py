"""The methods the CAM network can be trained by, each a file: a new one is added there and named here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sfc.config import Dc, Ibr, Msdw
from sfc.config_types import Section
from sfc.methods.base import BaseParams
from sfc.methods.sfc import SfcParams
from sfc.methods.sipe import SipeParams


@dataclass(frozen=True)
class Method:
    """One value of `train_cam.method`.

    Attributes:
        name: that value.
        sections: the params sections it reads beside `train_cam`, by name; several methods may read one.
    """

    name: str
    sections: Mapping[str, type[Section]]


METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method("base", {"base": BaseParams}),
        Method("sipe", {"sipe": SipeParams}),
        Method("sfc", {"sfc": SfcParams, "ibr": Ibr, "dc": Dc, "msdw": Msdw}),
    )
}
