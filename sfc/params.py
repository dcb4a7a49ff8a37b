"""params.yaml, read and checked: every unknown, missing or unfitting value is one clear line."""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError, model_validator

from sfc.config import DATASET_FIELDS, SECTIONS, Dataset, Section
from sfc.errors import UserError


class Params(Section):
    """All of params.yaml; `get` hands out one section (or one value of it) by its dotted name."""

    sections: dict[str, Section]

    @model_validator(mode="after")
    def _ranges(self) -> Params:
        low, high = self.sections["sfc"].long_side
        if low > high:
            raise ValueError(f"sfc.long_side: [{low}, {high}] must be [smallest, largest]")
        low, high = self.sections["irn"].rescale
        if low > high:
            raise ValueError(f"irn.rescale: [{low}, {high}] must be [smallest, largest]")
        seg = self.sections["seg"]
        if seg.scale_draw == "uniform" and (len(seg.scales) != 2 or seg.scales[0] > seg.scales[1]):
            raise ValueError(f"seg.scales: {list(seg.scales)} must be [smallest, largest] for seg.scale_draw uniform")
        if seg.model == "largefov" and len(seg.atrous_rates) != 1:
            raise ValueError(f"seg.atrous_rates: {list(seg.atrous_rates)} must be one rate for seg.model largefov")
        if self.sections["analyse"].split not in self.sections["cam"].splits:
            raise ValueError("analyse.split: there are CAMs of the splits in cam.splits alone; name one of these")
        return self

    @model_validator(mode="after")
    def _dataset_fields(self) -> Params:
        dataset: Dataset = self.sections["dataset"]
        for name, value in dataset:
            if value is not None and name not in ("kind", "root", *DATASET_FIELDS[dataset.kind]):
                raise ValueError(f"dataset.{name}: has no meaning for kind {dataset.kind}; set it to null")
        if dataset.kind == "table" and dataset.labels is None:
            raise ValueError("dataset.labels: name the table (image,classes and, if you like, mask and split)")
        if len({dataset.train, dataset.val, dataset.test}) < 3:
            raise ValueError("dataset.train, dataset.val and dataset.test must differ")
        return self

    def get(self, name: str) -> Any:
        """`get("sfc")` is a section, `get("sfc.batch_size")` a value, `get("fusion.crf")` a section."""
        if name in self.sections:
            return self.sections[name]
        section, _, field = name.rpartition(".")
        return getattr(self.sections[section], field)


class Yaml12Loader(yaml.SafeLoader):
    """SafeLoader that reads numbers as YAML 1.2 does: DVC writes `1e-05`, which YAML 1.1 calls a string."""


Yaml12Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:\d+(?:\.\d*)?|\.\d+)[eE][-+]?\d+$"),
    list("-+.0123456789"),
)


def load_params(path: Path | str = "params.yaml") -> Params:
    """Read and check a whole params file.

    Raises:
        UserError: no such file, not YAML, an unknown, missing or out-of-range param; the message names it.
    """
    try:
        values = yaml.load(Path(path).read_text(encoding="utf-8"), Loader=Yaml12Loader)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run from the project's folder or copy one of presets/") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text ({error}); save it as UTF-8") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    return parse_params(values, source=str(path))


def parse_params(values: Any, *, source: str = "params.yaml") -> Params:
    """Check a params mapping that has been read already; raises UserError as `load_params` does."""
    if not isinstance(values, dict):
        raise UserError(f"{source}: expected sections such as sfc: and crf:, found {type(values).__name__}")
    flat = dict(values)
    fusion = flat.pop("fusion", {})
    if not isinstance(fusion, dict):
        raise UserError(f"{source}: fusion: expected the parts crf, walk and eval")
    flat.update({f"fusion.{name}.{use}": section for name, uses in fusion.items() for use, section in uses.items()})
    for name in flat:
        if name not in SECTIONS:
            raise UserError(f"{source}: unknown section {name}{_nearest(str(name), SECTIONS)}")
    sections = {}
    for name, model in SECTIONS.items():
        if name not in flat:
            raise UserError(f"{source}: section {name} is missing; copy it from presets/voc12.yaml")
        sections[name] = _parse_section(name, model, flat[name], source)
    try:
        return Params(sections=sections)
    except ValidationError as error:
        raise UserError(f"{source}: {error.errors()[0]['msg'].removeprefix('Value error, ')}") from None


def _parse_section(name: str, model: type[Section], values: Any, source: str) -> Section:
    try:
        return model.model_validate(_tuples(values))
    except ValidationError as error:
        raise UserError(f"{source}: " + "; ".join(_explain(name, model, e) for e in error.errors())) from None


def _explain(name: str, model: type[Section], error: dict) -> str:
    parts = [str(p) for p in error["loc"]]
    where = ".".join([name, *parts])
    if error["type"] == "extra_forbidden":
        return f"unknown param {where}{_nearest(where, field_names(name, model))}"
    if error["type"] == "missing":
        return f"param {where} is missing"
    return f"param {where}: {error['msg'].lower().replace('tuple', 'list')} (got {error['input']!r})"


def field_names(prefix: str, model: type[Section]) -> list[str]:
    """Dotted names of all params under `prefix`, nested sections included."""
    names = []
    for field, info in model.model_fields.items():
        nested = info.annotation
        if isinstance(nested, type) and issubclass(nested, Section):
            names += field_names(f"{prefix}.{field}", nested)
        names.append(f"{prefix}.{field}")
    return names


def _nearest(name: str, known) -> str:
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else ""


def _tuples(value: Any) -> Any:
    """YAML lists as tuples, so that the frozen sections hold no list."""
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
