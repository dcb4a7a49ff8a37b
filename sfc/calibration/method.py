"""A method: one way to train a CAM network from image-level labels, as `sfc.methods` registers it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from sfc.calibration.network import CamNetwork
from sfc.calibration.objective import Objective
from sfc.config import SECTIONS
from sfc.config_types import Section
from sfc.errors import UserError


@dataclass(frozen=True)
class Setup:
    """What a training gives the objective of any method, beside the method's own params.

    Attributes:
        trunk: keyword arguments of `CamNetwork`: arch, num_classes, frozen_stages, batch_norm.
        crop: height and width of the training images in pixels.
        random_seed: of everything the objective draws.
        dc: (C,) float32 distribution coefficients (Eq. 6), for a method that reads the section `dc`; else None.
    """

    trunk: dict[str, Any]
    crop: int
    random_seed: int
    dc: Tensor | None

    @property
    def num_classes(self) -> int:
        """Foreground classes C."""
        return self.trunk["num_classes"]


@dataclass(frozen=True)
class Method:
    """What the stages ask of a method, which they know by nothing but its name.

    Attributes:
        name: as in `train_cam.method`, and of its params in `fusion`.
        sections: the params sections it reads, by name; one that several methods read is in `sfc.config`.
        network: class of its network, which names its kinds of CAM and those that stand for it.
        objective: `objective(setup, **sections)` builds network and objective; torch's random numbers are seeded.
        losses: names of the losses of the objective beside "loss", whether a run has them all or not.
        measures: names of what else the objective returns with the losses, in no loss and without gradient: what a
            person should see of the training beside its losses (`sfc.calibration.measures`).
        warning: a row of the curve to one line for the person who watches, or None while there is nothing to say.
    """

    name: str
    sections: Mapping[str, type[Section]]
    network: type[CamNetwork]
    objective: Callable[..., Objective]
    losses: tuple[str, ...]
    measures: tuple[str, ...] = ()
    warning: Callable[[Mapping[str, float]], str | None] | None = None

    def __post_init__(self) -> None:
        """Raise UserError where the parts of a method cannot belong together."""
        for field in ("losses", "measures"):
            names = getattr(self, field)
            if not isinstance(names, tuple) or "loss" in names:
                raise UserError(f"method {self.name}: {field} is {names!r}; give a tuple of names, none of them loss")
        if not set(self.network.fused) <= set(self.network.kinds):
            raise UserError(f"method {self.name}: fused {self.network.fused} are not among kinds {self.network.kinds}")


def registry(*methods: Method) -> dict[str, Method]:
    """The methods by name.

    Raises:
        UserError: two have one name, or one name of a section means two things.
    """
    found: dict[str, Method] = {}
    sections: dict[str, tuple[str, type[Section]]] = {name: ("all", model) for name, model in SECTIONS.items()}
    for method in methods:
        if method.name in found:
            raise UserError(f"method {method.name}: there are two of this name; rename one of them")
        found[method.name] = method
        for name, model in method.sections.items():
            other, known = sections.setdefault(name, (method.name, model))
            if name == "fusion" or other == "all" or known is not model:
                of = "params.yaml" if name == "fusion" or other == "all" else f"method {other}"
                raise UserError(f"method {method.name}: its section {name} is one of {of} already; rename it")
    return found
