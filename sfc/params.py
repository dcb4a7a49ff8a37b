"""params.yaml, read and checked: every unknown, missing or unfitting value is one clear line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.tokens import ScalarToken, TagToken

from sfc.config import FUSION_USES, SECTIONS
from sfc.config_types import Section
from sfc.errors import UserError, nearest

if TYPE_CHECKING:
    from sfc.methods import Method

MOST = 1_000_000  # values in a YAML file; params have hundreds


@dataclass(frozen=True)
class Params:
    """All of params.yaml; `sections` by dotted name, in the order of `known_sections`."""

    sections: Mapping[str, Section]

    def get(self, name: str) -> Any:
        """`get("crf")` is a section, `get("crf.mode")` a value; `{method}` stands for train_cam.method."""
        name = name.replace("{method}", self.sections["train_cam"].method)
        if name in self.sections:
            return self.sections[name]
        section, _, field = name.rpartition(".")
        return getattr(self.sections[section], field)

    def method_sections(self) -> dict[str, Section]:
        """The sections that the chosen method reads, in its own order."""
        return {name: self.sections[name] for name in _methods()[self.get("train_cam.method")].sections}


def _methods() -> Mapping[str, Method]:
    from sfc.methods import METHODS  # not at the top: no stage shall depend on every method because it reads params

    return METHODS


def method_section_names() -> tuple[str, ...]:
    """The sections that any method reads, each once."""
    return tuple(dict.fromkeys(name for method in _methods().values() for name in method.sections))


def known_sections() -> dict[str, type[Section]]:
    """Dotted name -> model: the sections of `sfc.config`, those of every method, and how CAMs of each are fused."""
    known = dict(SECTIONS)
    for name, method in _methods().items():
        known |= method.sections
        known |= {f"fusion.{name}.{use}": model for use, model in FUSION_USES.items()}
    return known


def read_yaml(text: str, *, source: str) -> Any:
    """The values of a YAML 1.2 document, as DVC reads them: 1e-05 is a number, `on` is text, 010 is ten.

    Raises:
        UserError: not YAML, nested beyond all reason, a key stands twice in one mapping, or aliases unfold for ever or
            to more than `MOST` values.
    """
    try:
        values = YAML(typ="safe", pure=True).load(text)
        if _unfolded(values, {}) > MOST:
            raise UserError(f"{source}: not a params file: its aliases stand for more than {MOST:,} values")
        return values
    except UserError:
        raise
    except _HoldsItselfError:
        raise UserError(f"{source}: not valid YAML: an alias (*) names what it stands in") from None
    except MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise UserError(f"{source}: not valid YAML: {line}{' '.join(error.problem.split())}") from None
    except RecursionError:
        raise UserError(f"{source}: not a params file: nested too deeply") from None
    except YAMLError as error:
        raise UserError(f"{source}: not valid YAML: {' '.join(str(error).split())}") from None
    except (ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError) as error:
        # what looks like a date or a number, or has such a tag, is made into one unchecked
        where = next((f"line {line}: " for line in _unreadable(text)), "")
        raise UserError(f"{source}: not valid YAML: {where}{error or 'no value'}; put the value in quotes") from None


def _unreadable(text: str) -> Iterator[int]:
    """The lines with a plain value that cannot be made into what it looks like."""
    with suppress(ArithmeticError, ValueError):  # of an escape that stands for no character
        tokens = list(YAML(typ="safe", pure=True).scan(text))
        for before, token in pairwise(tokens):
            if isinstance(token, ScalarToken) and token.plain and not isinstance(before, TagToken):
                try:
                    YAML(typ="safe", pure=True).load(token.value)
                except (ArithmeticError, LookupError, ValueError):
                    yield token.start_mark.line + 1
                except YAMLError:
                    continue


class _HoldsItselfError(Exception):
    pass


def _unfolded(value: Any, known: dict[int, int | None]) -> int:
    """How many values there are once each alias is a copy of what it names; `known`: of containers by id."""
    if not isinstance(value, dict | list):
        return 1
    if id(value) not in known:
        known[id(value)] = None
        known[id(value)] = 1 + sum(_unfolded(v, known) for v in (value.values() if isinstance(value, dict) else value))
    if known[id(value)] is None:
        raise _HoldsItselfError
    return known[id(value)]


def read_text(path: Path | str) -> str:
    """The text of a params file, without a byte order mark; UserError if there is none, or it is not UTF-8."""
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run from the project's folder, or python -m stages.preset") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text ({error}); save it as UTF-8") from None


def load_params(path: Path | str = "params.yaml") -> Params:
    """Read and check a whole params file.

    Raises:
        UserError: no such file, not YAML, an unknown, missing or out-of-range param; the message names it.
    """
    return parse_params(read_yaml(read_text(path), source=str(path)), source=str(path))


def parse_params(values: Any, *, source: str = "params.yaml") -> Params:
    """Check a params mapping that has been read already; raises UserError as `load_params` does."""
    try:
        return _parsed(values, source)
    except UserError as error:  # names and values come from the file, and may hold anything
        raise UserError("".join(c if c.isprintable() else repr(c)[1:-1] for c in str(error))) from None


def _parsed(values: Any, source: str) -> Params:
    if not isinstance(values, dict):
        raise UserError(f"{source}: expected sections such as train_cam: and crf:, found {type(values).__name__}")
    known = known_sections()
    found = dict(_sections(values, known, source))
    sections = {}
    for name, model in known.items():
        if name not in found:
            raise UserError(f"{source}: section {_missing(name, found)} is missing; copy it from presets/voc12.yaml")
        sections[name] = _parse_section(name, model, found[name], source)
    params = Params(sections)
    _check_together(params, source)
    return params


def _sections(values: dict, known: Iterable[str], source: str, inside: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted name, values) of every section; groups of sections, such as fusion, are taken apart."""
    for key, value in values.items():
        name = f"{inside}{key}"
        parts = dict.fromkeys(s.removeprefix(f"{name}.").split(".")[0] for s in known if s.startswith(f"{name}."))
        if name in known:
            yield name, value
        elif not parts:
            groups = {section.rpartition(".")[0] for section in known} - {""}
            raise UserError(f"{source}: unknown section {name}{nearest(name, [*known, *groups])}")
        elif not isinstance(value, dict):
            raise UserError(f"{source}: {name}: expected the parts {', '.join(parts)}")
        else:
            yield from _sections(value, known, source, f"{name}.")


def _missing(name: str, found: Iterable[str]) -> str:
    """The section or, where nothing of it is there, the whole group that holds it."""
    parts = name.split(".")
    groups = (".".join(parts[:depth]) for depth in range(1, len(parts)))
    return next((group for group in groups if not any(f.startswith(f"{group}.") for f in found)), name)


def _check_together(params: Params, source: str) -> None:
    """What no section can know alone."""
    method = params.get("train_cam.method")
    if method not in _methods():
        near = nearest(method, _methods())
        raise UserError(f"{source}: train_cam.method: no method {method}; there are {', '.join(_methods())}{near}")
    if params.get("cam.pcm_iters") is not None and not _methods()[method].network.correlated:
        raise UserError(f"{source}: cam.pcm_iters: method {method} has no pixel correlation (PCM); set it to null")
    _check_kinds(params, source)
    for section in ("train_cam", "irn", "seg"):
        if params.get(f"{section}.negative_share") and not params.get("dataset.negatives"):
            raise UserError(
                f"{source}: {section}.negative_share: there are no negatives while dataset.negatives is false; "
                "set that to true, or this to null"
            )
    if params.get("analyse.split") not in params.get("cam.splits"):
        raise UserError(f"{source}: analyse.split: there are CAMs of the splits in cam.splits alone; name one of these")


def _check_kinds(params: Params, source: str) -> None:
    """Weights are of the kinds that stand for a method; gains, too, but those by which each kind alone is measured."""
    for name, known in _methods().items():
        for use in FUSION_USES:
            fusion, kinds = params.get(f"fusion.{name}.{use}"), known.network.fused
            if set(fusion.weights) != set(kinds):
                raise UserError(
                    f"{source}: fusion.{name}.{use}.weights: of {', '.join(fusion.weights)}, but the CAMs that stand "
                    f"for {name} are {', '.join(kinds)}; name these"
                )
            kinds = known.network.kinds if use == "eval" else kinds
            if isinstance(fusion.fg_gain, dict) and set(fusion.fg_gain) != set(kinds):
                raise UserError(
                    f"{source}: fusion.{name}.{use}.fg_gain: of {', '.join(fusion.fg_gain) or 'none'}, but "
                    f"{'each CAM' if use == 'eval' else 'what stands for the method'} is read here, and they are "
                    f"{', '.join(kinds)}; give each its own, or one number for all"
                )


def _parse_section(name: str, model: type[Section], values: Any, source: str) -> Section:
    try:
        return model.model_validate(_tuples(values))
    except ValidationError as error:
        raise UserError(f"{source}: " + "; ".join(_problems(name, model, values, error.errors()))) from None


def _problems(name: str, model: type[Section], values: Any, errors: list[dict]) -> list[str]:
    """A line for each place: the alternatives of a union are one place, and a list of bad elements has no fault."""
    places: dict[tuple, dict] = {}
    for error in errors:
        place = error["loc"] if error["type"] == "missing" else _place(error["loc"], values)
        if place in places:
            error = {**error, "msg": f"{places[place]['msg']} or {error['msg'].removeprefix('Input should be ')}"}
        places[place] = {**error, "loc": place}
    inner = {place[:depth] for place in places for depth in range(len(place))}
    return [_explain(name, model, error) for place, error in places.items() if place not in inner]


def _place(location: tuple, values: Any) -> tuple:
    """As much of an error's location as the params have; pydantic adds the alternative that it tried."""
    found = []
    for key in location:
        try:
            values = values[key]
        except (KeyError, IndexError, TypeError):
            continue
        found.append(key)
    return tuple(found)


def _explain(name: str, model: type[Section], error: dict) -> str:
    where = ".".join([name, *map(str, error["loc"])])
    if error["type"] == "extra_forbidden":
        return f"unknown param {where}{nearest(where, field_names(name, model))}"
    if error["type"] == "missing":
        return f"param {where} is missing"
    if error["type"] == "value_error":  # of a section's own validator, see `Section`
        return f"{where}.{error['ctx']['error']}"
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


def _tuples(value: Any) -> Any:
    """YAML lists as tuples, so that the frozen sections hold no list."""
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
