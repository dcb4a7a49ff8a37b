"""Every param with values that it cannot have, made from the models: a new param is attacked unasked.

What is accepted must be of the range that the param's own type allows, and whatever is refused is one line that names
the param.
"""

import copy
import math
import types
import typing
from pathlib import Path

import pytest

from sfc.config_types import Section
from sfc.errors import UserError
from sfc.params import known_sections, parse_params, read_yaml

VOC = Path(__file__).resolve().parents[1] / "presets" / "voc12.yaml"
VALUES = read_yaml(VOC.read_text(), source="voc12")
LARGEST = dict.fromkeys(
    ("train_cam.random_seed", "irn.random_seed", "seg.random_seed", "evaluate.bootstrap.random_seed"), 2**64 - 1
)
NESTED = [[[[1]]]]
BAD = [
    None, True, False, 0, 1, -1, 2**31, 2**64, -(2**63), 10**400, 0.0, -0.0, 0.5, -0.5, 1e-30, 1e30, 1e308,
    math.nan, math.inf, -math.inf, "", "x", "none", "1", "nan", "../../etc/passwd", "\0", "ü" * 300, "a\nb", [], [None],
    [0], [-1.0], [1.0, 1.0], [math.nan], ["x"], [2, 1], NESTED, {}, {"x": 1}, {"": 0.5}, {1: 2}, {None: None},
]  # fmt: skip


def fields(model, prefix):
    """(dotted name, what it may be) of every param of a section, sections in it included."""
    for name, info in model.model_fields.items():
        dotted = f"{prefix}.{name}"
        yield dotted, info.annotation
        if isinstance(info.annotation, type) and issubclass(info.annotation, Section):
            yield from fields(info.annotation, dotted)


FIELDS = dict(item for name, model in known_sections().items() for item in fields(model, name))


def put(values, dotted, value):
    *path, last = dotted.split(".")
    for name in path:
        values = values[name]
    values[last] = value


def get(params, dotted):
    """The value of a param that was read, of a section in a section too."""
    name = max((known for known in params.sections if dotted.startswith(f"{known}.")), key=len)
    found = params.sections[name]
    for part in dotted.removeprefix(f"{name}.").split("."):
        found = getattr(found, part)
    return found


def numbers(value):
    """All numbers in a value."""
    if isinstance(value, dict):
        value = [*value.values()]
    if isinstance(value, list | tuple):
        return [number for item in value for number in numbers(item)]
    return [value] if isinstance(value, int | float) else []


def kinds(annotation):
    """The plain types that an annotation allows, those in containers as well."""
    inner = typing.get_args(annotation)
    if typing.get_origin(annotation) is typing.Annotated:
        return kinds(inner[0])
    if typing.get_origin(annotation) is typing.Literal:
        return {type(value) for value in inner}
    if typing.get_origin(annotation) in (typing.Union, types.UnionType, tuple, dict):
        return set().union(*(kinds(part) for part in inner if part is not ...))
    return {annotation}


def test_there_are_params_of_every_kind():
    assert len(FIELDS) > 120
    found = set().union(*(kinds(annotation) for annotation in FIELDS.values()))
    assert {int, float, str, bool, type(None)} <= found
    assert all(kind in (int, float, str, bool, type(None)) or issubclass(kind, Section) for kind in found)


@pytest.mark.parametrize("dotted", FIELDS)
def test_a_bad_value_is_one_line_and_a_good_one_in_range(dotted):
    for value in BAD:
        values = copy.deepcopy(VALUES)
        put(values, dotted, value)
        try:
            params = parse_params(values)
        except UserError as error:
            said = str(error)
            assert said.startswith("params.yaml: "), (value, said)
            assert "\n" not in said, (value, said)
            section = dotted.rpartition(".")[0].split(".")[0]
            assert section in said, (value, said)
            continue
        found = get(params, dotted)
        if bool not in kinds(FIELDS[dotted]):
            assert not isinstance(found, bool), value
        for number in numbers(found):
            assert abs(number) <= (1e12 if float in kinds(FIELDS[dotted]) else LARGEST.get(dotted, 10**9)), value


@pytest.mark.parametrize("dotted", FIELDS)
def test_a_param_that_is_missing_or_misspelt_is_named(dotted):
    for spelling in (None, dotted.rpartition(".")[2] + "x"):
        values = copy.deepcopy(VALUES)
        *path, last = dotted.split(".")
        section = values
        for name in path:
            section = section[name]
        value = section.pop(last)
        if spelling:
            section[spelling] = value
        with pytest.raises(UserError) as error:
            parse_params(values)
        assert dotted in str(error.value)
        assert "\n" not in str(error.value)
