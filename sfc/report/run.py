"""What a run has left, as plain values: the report is made of these alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sfc.example_archive import ExampleArchive


@dataclass(frozen=True)
class Run:
    """One run of the pipeline. What it has not made is missing in the mappings.

    Attributes:
        name: "this run", or that of an experiment.
        params: by dotted name.
        metrics: name of a metrics file (prepare, train_cam, evaluate_cam, ...) -> what is in it, in pipeline order.
        classes: name, number of training images (`n`) and distribution coefficient (`dc`) of each class.
        per_class: product -> rows of the table that `sfc.evaluation.tables.write_per_class` wrote.
        examples: product -> pictures and figures of single images.
    """

    name: str
    params: Mapping[str, Any]
    metrics: Mapping[str, Mapping[str, Any]]
    classes: Sequence[Mapping[str, str]]
    per_class: Mapping[str, Sequence[Mapping[str, str]]]
    examples: Mapping[str, ExampleArchive]


@dataclass(frozen=True)
class StepFigures:
    """What was measured of one map of a product on one split, percent; None where it was not or is undefined.

    Attributes:
        step: the product's title, with the map's name where it has several.
        main: whether the map stands for the product.
        images: how many were measured.
        low, high: the mIoU's interval.
        sets: mean IoU of each class set.
        over, under: over- and under-activated share of the union, means over foreground classes.
        baseline: mIoU of calling everything background.
        oracle: mIoU with the best constant background, which is chosen on the masks.
    """

    run: str
    product: str
    step: str
    split: str
    map: str
    main: bool
    images: int
    miou: float | None
    low: float | None
    high: float | None
    sets: Mapping[str, float | None]
    pixel_accuracy: float | None
    over: float | None
    under: float | None
    baseline: float | None
    oracle: float | None


def step_figures(run: Run, titles: Mapping[str, str]) -> list[StepFigures]:
    """All that was measured, in the order of `titles` (product -> title); a product that was not made is left out."""
    found = []
    for product, title in titles.items():
        for split, figures in run.metrics.get(f"evaluate_{product}", {}).items():
            maps = {name: value for name, value in figures.items() if isinstance(value, Mapping) and "miou" in value}
            main = figures.get("stands_for", "labels")
            for name, values in (maps or {main: figures}).items():
                step = f"{title}, {name}" if maps else title
                found.append(_step(run.name, product, step, split, name, name == main, {**figures, **values}))
    return found


def _step(run, product, step, split, name, main, found) -> StepFigures:
    sets = {key.removeprefix("miou_"): value for key, value in found.items() if key.startswith("miou_")}
    return StepFigures(
        run=run,
        product=product,
        step=step,
        split=split,
        map=name,
        main=main,
        images=found["images"],
        miou=found.get("miou"),
        low=sets.pop("low", None),
        high=sets.pop("high", None),
        sets=sets,
        pixel_accuracy=found.get("pixel_accuracy"),
        over=found.get("false_positive_rate"),
        under=found.get("false_negative_rate"),
        baseline=found.get("baseline_all_background"),
        oracle=found.get("oracle", {}).get("miou"),
    )


@dataclass(frozen=True)
class ClassFigures:
    """Of one class: iou, over and under as in `StepFigures`, percent, None where undefined."""

    run: str
    step: str
    split: str
    main: bool
    label: str
    iou: float | None
    over: float | None
    under: float | None


def class_figures(run: Run, titles: Mapping[str, str]) -> list[ClassFigures]:
    """Background and every class, of every map of every product, on the split that is shown: the first with masks."""
    found = []
    for product, title in titles.items():
        rows = run.per_class.get(product, ())
        shown = next((row["split"] for row in rows if row["shown"] == "yes"), None)
        rows = [row for row in rows if row["split"] == shown]
        several = len({row["map"] for row in rows}) > 1
        for row in rows:
            found.append(
                ClassFigures(
                    run=run.name,
                    step=f"{title}, {row['map']}" if several else title,
                    split=row["split"],
                    main=row["main"] == "yes",
                    label=row["class"],
                    iou=_number(row["iou"]),
                    over=_number(row["false_positive_rate"]),
                    under=_number(row["false_negative_rate"]),
                )
            )
    return found


def _number(text: str) -> float | None:
    return float(text) if text else None
