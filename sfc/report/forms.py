"""The form of the files that the report is made of; what a `Run` holds has been checked here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, RootModel, TypeAdapter, ValidationError, model_validator

from sfc.errors import UserError

_DEEPEST = 20  # folders of figures in one another; the metrics of no stage have more than four

Figure = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Percent = Annotated[float, Field(strict=True, ge=0, le=100)]
Count = Annotated[int, Field(strict=True, ge=0)]
Text = Annotated[str, Field(strict=True)]
Cell = Annotated[float, Field(allow_inf_nan=False)] | Literal[""]  # of a table, where it is text


class _Form(BaseModel):
    """Keys beside those that are named are figures that the report lists as they are."""

    model_config = ConfigDict(extra="allow")


class _Oracle(_Form):
    miou: Figure | None = None


class _Measured(_Form):
    """The figures of a map, or of the labels of a product that has one map alone."""

    miou: Figure | None = None
    pixel_accuracy: Figure | None = None
    false_positive_rate: Figure | None = None
    false_negative_rate: Figure | None = None
    baseline_all_background: Figure | None = None
    oracle: _Oracle = _Oracle()

    @model_validator(mode="after")
    def sets(self):
        for name, value in (self.model_extra or {}).items():
            if name.startswith("miou_"):
                TypeAdapter(Figure | None).validate_python(value)
        return self


class _Split(_Measured):
    images: Count
    tried_on_masks_of: dict[str, Count] = {}
    stands_for: Text = "labels"

    @model_validator(mode="after")
    def maps(self):
        for value in (self.model_extra or {}).values():
            if isinstance(value, dict) and "miou" in value:
                _Measured.model_validate(value)
        return self


class _Counts(_Form):
    classes_per_image: Figure | None = None


class _HeadTail(_Form):
    head: Figure | None
    tail: Figure | None


class _Rates(_Form):
    false_positive_rate: _HeadTail
    false_negative_rate: _HeadTail


class _Analysis(_Form):
    head: Text | None = None

    @model_validator(mode="after")
    def maps(self):
        if self.head:
            for name in ("tail", "split"):
                TypeAdapter(Text).validate_python((self.model_extra or {}).get(name))
            for value in (self.model_extra or {}).values():
                if isinstance(value, dict) and isinstance(value.get("false_positive_rate"), dict):
                    _Rates.model_validate(value)
        return self


class _ClassRow(_Form):
    label: Text = Field(alias="class")
    n: Annotated[str, Field(strict=True, pattern=r"^[0-9]{1,15}$")]
    dc: Annotated[float, Field(allow_inf_nan=False)]


class _PerClassRow(_Form):
    label: Text = Field(alias="class")
    split: Text
    map: Text
    main: Text
    shown: Text
    iou: Cell
    false_positive_rate: Cell
    false_negative_rate: Cell


class _Picture(_Form):
    kind: Text
    map: Text | None
    label: Count | None
    file: Annotated[str, Field(strict=True, pattern=r"\.(jpg|png)$")]


class _Example(_Form):
    id: Text
    fixed: bool
    iou: Percent | None
    rank: Count | None
    of_class: dict[str, Percent | None]
    shows: list[Count]
    extra: list[Count]
    pictures: list[_Picture]


class _Colour(_Form):
    name: Text
    colour: Text


class _Index(_Form):
    meaning: Text
    split: Text
    main: Text
    images: Count
    labels: list[_Colour]
    scale: list[Text]
    ious: list[Percent]
    examples: list[_Example]


class _Evaluated(RootModel[dict[str, _Split]]):
    pass


class _Prepared(_Form):
    @model_validator(mode="after")
    def splits(self):
        for value in (self.model_extra or {}).values():
            if isinstance(value, dict):
                _Counts.model_validate(value)
        return self


def check_metrics(name: str, values: Mapping[str, Any], source: str) -> None:
    """Metrics of the stage `name`, such as evaluate_cam; raises UserError that names `source` if they are not."""
    form = _Evaluated if name.startswith("evaluate_") else {"prepare": _Prepared, "analyse": _Analysis}.get(name)
    if not _is_plain(values, _DEEPEST):
        raise UserError(f"{source}: no figures of a stage; run it again")
    if form is not None:
        _check(form, values, source)


def check_classes(rows: Sequence[Mapping[str, str]], source: str) -> None:
    """Rows of out/label_stats.csv; raises UserError as `check_metrics`."""
    for line, row in enumerate(rows, 2):
        _check(_ClassRow, row, f"{source}: line {line}")


def check_per_class(rows: Sequence[Mapping[str, str]], source: str) -> None:
    """Rows of the table that `sfc.evaluation.tables.write_per_class` wrote; raises UserError as `check_metrics`."""
    for line, row in enumerate(rows, 2):
        _check(_PerClassRow, row, f"{source}: line {line}")


def check_index(index: Any, source: str) -> None:
    """The index of an archive of examples; raises UserError as `check_metrics`."""
    _check(_Index, index, source)


def _check(form: type[BaseModel], values: Any, source: str) -> None:
    try:
        form.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "all of it"
        said = " ".join(first["msg"].split())
        raise UserError(f"{source}: not what its stage writes ({where}: {said}); run the stage again") from None


def _is_plain(value: Any, deepest: int) -> bool:
    if isinstance(value, Mapping | list):
        inside = value.values() if isinstance(value, Mapping) else value
        return deepest > 0 and all(_is_plain(item, deepest - 1) for item in inside)
    return value is None or isinstance(value, str | int | float)
