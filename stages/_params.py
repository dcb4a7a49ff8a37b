"""Which params a stage is handed, as the annotations of its function say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, get_type_hints

from sfc.config_types import Section
from sfc.params import Params, method_section_names


@dataclass(frozen=True)
class Param:
    """Annotated[T, Param("walk.steps")] hands a stage that value or section of params.yaml.

    `{method}` in the name stands for train_cam.method.
    """

    name: str

    def names(self) -> tuple[str, ...]:
        return (self.name,)

    def read(self, params: Params) -> Any:
        return params.get(self.name)


@dataclass(frozen=True)
class MethodSections:
    """Annotated[dict[str, Section], MethodSections(...)] hands a stage the sections its method reads, by name.

    Args:
        declared: whether the stage depends on them, and so on those of all methods: dvc.yaml cannot choose.
    """

    declared: bool

    def names(self) -> tuple[str, ...]:
        # asked for by the tests alone: what methods there are must not become a dependency of the stage
        return method_section_names() if self.declared else ()

    def read(self, params: Params) -> dict[str, Section]:
        return params.method_sections()


@dataclass(frozen=True)
class AllParams:
    """Annotated[Params, AllParams()] hands a stage all params; it depends on the whole of params.yaml, by value."""

    def names(self) -> tuple[str, ...]:
        return ("params.yaml:",)  # as dvc.yaml writes it

    def read(self, params: Params) -> Params:
        return params


LISTED = {MethodSections: "those of the method", AllParams: "all"}


def params_of(function: Callable) -> dict[str, Param | MethodSections | AllParams]:
    """The parameters of a stage that params.yaml fills, and by what."""
    found = {}
    for parameter, hint in get_type_hints(function, include_extras=True).items():
        markers = [m for m in getattr(hint, "__metadata__", ()) if isinstance(m, Param | MethodSections | AllParams)]
        if markers:
            (found[parameter],) = markers
        elif isinstance(hint, type) and issubclass(hint, Section):
            found[parameter] = Param(parameter)
    return found
