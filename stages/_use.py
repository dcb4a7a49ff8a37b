"""What the commands that use a model share: how the model looks at images, and options for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from pydantic import TypeAdapter, ValidationError

from sfc.config_types import DistinctScales
from sfc.errors import UserError
from sfc.params import Params, load_params

PARAMS = Path("params.yaml")


@dataclass(frozen=True)
class Look:
    """How a segmentation model looks at images, as the section `predict` of params.yaml says; `crf` None: no CRF."""

    scales: tuple[float, ...]
    merge: str
    flip: bool
    batch_size: int
    precision: str
    crf: dict[str, Any] | None

    def __str__(self) -> str:
        """For the person who watches: how images are looked at."""
        crf = "with a CRF" if self.crf else "no CRF"
        return f"{scales_line(self.scales, self.flip)}, {self.precision}, {crf}"


# where a model is used away from its project; a single scale has nothing to merge
PLAIN = Look(scales=(1.0,), merge="max", flip=False, batch_size=8, precision="fp32", crf=None)


def look(*, scales: tuple[float, ...] | None, flip: bool | None, crf: bool | None) -> Look:
    """The section `predict`, where there is a params.yaml, else `PLAIN`; with what options say otherwise.

    Raises:
        UserError: params.yaml has a slip, or a CRF is wanted whose constants nothing says.
    """
    params = project_params()
    if params is None and crf:
        raise UserError("--crf: its constants are in params.yaml, predict.crf; run it in the project's folder")
    found = PLAIN if params is None else _of(params, crf)
    scales, flip = (found.scales if scales is None else scales), (found.flip if flip is None else flip)
    return Look(scales, found.merge, flip, found.batch_size, found.precision, found.crf)


def _of(params: Params, crf: bool | None) -> Look:
    predict = params.get("predict")
    wanted = predict.crf.enabled if crf is None else crf
    kernels = predict.crf.model_dump(exclude={"enabled"}) if wanted else None
    return Look(predict.scales, predict.merge, predict.flip, predict.batch_size, predict.precision, kernels)


def scales_line(scales: tuple[float, ...], flip: bool) -> str:
    """For the person who watches: at which scales images are seen, and whether mirrored."""
    shown = ", ".join(f"{scale:g}" for scale in scales)
    return f"scale{'s' if len(scales) > 1 else ''} {shown}, {'mirrored too' if flip else 'not mirrored'}"


def source_line() -> str:
    """Where settings that no option gives come from."""
    return "settings of params.yaml" if PARAMS.exists() else "no params.yaml here: settings of a model away from it"


def project_params() -> Params | None:
    """params.yaml of the folder where the command runs; None without one, UserError if it has a slip."""
    return load_params(PARAMS) if PARAMS.exists() else None


def _scales(context: click.Context, option: click.Parameter, text: str | None) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        return TypeAdapter(DistinctScales).validate_python(tuple(float(part) for part in text.split(",")))
    except ValidationError as error:
        raise click.BadParameter(f"{text}: {error.errors()[0]['msg'].lower()}") from None
    except ValueError:
        raise click.BadParameter(f"{text}: expected numbers with commas between, such as 0.75,1,1.25") from None


def look_options(where: str) -> Callable[[Callable], Callable]:
    """The options --scales and --flip; `where`: the params they stand in for."""

    def decorate(function: Callable) -> Callable:
        flip = click.option(
            "--flip/--no-flip", default=None, help=f"Average with the mirrored image's. [{where}; away from it: no]"
        )
        scales = click.option(
            "--scales", callback=_scales, help=f"Image scales with commas between. [{where}; away from it: 1]"
        )
        return scales(flip(function))

    return decorate
