"""The report's tables as rows of plain values, which the page writes out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sfc.report.run import ClassFigures, Run, StepFigures

MEASURES = {"iou": "IoU", "over": "over-activated", "under": "under-activated"}


def params_rows(runs: Sequence[Run], preset: Mapping[str, Any]) -> list[tuple[str, Any, list[Any], bool]]:
    """Params that a run has otherwise than the preset, or than another run: (name, preset's value, values, differ).

    `differ` says whether the runs do among themselves; a param that is not there has the value "-".
    """
    names = dict.fromkeys([*preset, *(name for run in runs for name in run.params)])
    rows = []
    for name in names:
        values = [run.params.get(name, "-") for run in runs]
        differ = _differ(values)
        if differ or any(value != preset.get(name, "-") for value in values):
            rows.append((name, preset.get(name, "-"), values, differ))
    return rows


def data_rows(prepare: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Of each split of metrics/prepare.json its name and counts."""
    return [{"split": split, **counts} for split, counts in prepare.items() if isinstance(counts, Mapping)]


def tried_on(run: Run) -> Mapping[str, int]:
    """Split -> number of images on whose masks offsets were tried, as `evaluate` wrote it; empty where none were."""
    splits = (found for name, file in run.metrics.items() if name.startswith("evaluate_") for found in file.values())
    return next((found["tried_on_masks_of"] for found in splits if "tried_on_masks_of" in found), {})


def set_names(figures: Iterable[StepFigures], params: Mapping[str, Any]) -> list[str]:
    """Names of the class sets that were measured, in the order of evaluate.class_sets."""
    found = dict.fromkeys(name for figure in figures for name in figure.sets)
    order = [name.removeprefix("evaluate.class_sets.") for name in params]
    return sorted(found, key=lambda name: order.index(name) if name in order else len(order))


def differences(figures: Sequence[StepFigures], first_run: str) -> list[float | None]:
    """Of each its mIoU less that of the first run's same step and split; None for the first run's and where unknown."""
    first = {(f.step, f.split): f.miou for f in figures if f.run == first_run}
    return [None if f.run == first_run else _above(f.miou, first.get((f.step, f.split))) for f in figures]


def side_by_side(figures: Sequence[StepFigures]) -> list[StepFigures]:
    """Ordered so that the runs of one step and split stand together, steps as they first come."""
    order = {key: place for place, key in enumerate(dict.fromkeys((f.step, f.split) for f in figures))}
    return sorted(figures, key=lambda f: order[f.step, f.split])


def class_columns(figures: Sequence[ClassFigures], first_run: str) -> list[dict[str, Any]]:
    """A column for each step and run: `step`, `run`, `split`, `main` and `cells`.

    `cells` is class -> measure -> its value and, of all runs but the first, how much that is above the first run's;
    None where unknown.
    """
    first = {(f.step, f.split, f.label): f for f in figures if f.run == first_run}
    columns: dict[tuple[str, str], dict[str, Any]] = {}
    for found in figures:
        about = {"step": found.step, "run": found.run, "split": found.split, "main": found.main, "cells": {}}
        base = first.get((found.step, found.split, found.label)) if found.run != first_run else None
        columns.setdefault((found.step, found.run), about)["cells"][found.label] = {
            name: (getattr(found, name), _above(getattr(found, name), getattr(base, name, None))) for name in MEASURES
        }
    order = {step: place for place, step in enumerate(dict.fromkeys(step for step, _ in columns))}
    return sorted(columns.values(), key=lambda column: order[column["step"]])


def _above(value: float | None, base: float | None) -> float | None:
    return None if value is None or base is None else value - base


def all_metrics(runs: Sequence[Run]) -> list[tuple[str, list[tuple[str, list[Any], bool]]]]:
    """(metrics file, rows of (dotted name, value of each run, whether they differ)), files in pipeline order."""
    files = dict.fromkeys(name for run in runs for name in run.metrics)
    found = []
    for file in files:
        values = [dict(_flat(run.metrics.get(file, {}))) for run in runs]
        names = dict.fromkeys(name for of_run in values for name in of_run)
        rows = ((name, [of_run.get(name) for of_run in values]) for name in names)
        found.append((file, [(name, of_runs, _differ(of_runs)) for name, of_runs in rows]))
    return found


def _differ(values: Sequence[Any]) -> bool:
    return any(value != values[0] for value in values)


def _flat(values: Mapping[str, Any], inside: str = "") -> Iterable[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{inside}{name}.")
        else:
            yield f"{inside}{name}", value
