"""The report's own charts as Vega-Lite; those of dvc.yaml come with their templates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sfc.report.run import ClassFigures, StepFigures

_SCHEMA = "https://vega.github.io/schema/vega-lite/v5.json"
_OVER, _UNDER = "#d1495b", "#30638e"
_BINS = 20


def steps_chart(figures: Sequence[StepFigures]) -> dict[str, Any] | None:
    """mIoU of every step as a bar, its interval as a line, and as a tick what calling everything background gives.

    A colour is a run or, of a single run, a split. None where nothing was measured.
    """
    rows = _step_rows(figures)
    if not rows:
        return None
    legend = {"orient": "top", "labelLimit": 0}
    end = max(row["end"] for row in rows) + 10  # with room for the label
    x = {"type": "quantitative", "title": "mIoU, %", "axis": {"tickCount": 8}, "scale": {"domain": [0, end]}}
    tip = [{"field": name, "type": "nominal"} for name in ("step", "series")]
    tip += [{"field": f, "type": "quantitative", "format": ".1f"} for f in ("mIoU", "low", "high", "all background")]
    layers = [
        (
            {"type": "bar", "opacity": 0.85},
            {"x": {"field": "mIoU", **x}, "tooltip": tip, "color": {**_nominal("series"), "legend": legend}},
        ),
        ({"type": "rule", "strokeWidth": 2}, {"x": {"field": "low", **x}, "x2": {"field": "high"}}),
        ({"type": "tick", "color": "black", "thickness": 2, "size": 13}, {"x": {"field": "all background", **x}}),
        ({"type": "text", "align": "left", "dx": 5}, {"x": {"field": "end", **x}, "text": {"field": "label"}}),
    ]
    return {
        "$schema": _SCHEMA,
        "width": "container",
        "height": {"step": 13, "for": "offset"},
        "data": {"values": rows},
        "encoding": {"y": {**_nominal("step"), "axis": {"labelLimit": 260}}, "yOffset": _nominal("series")},
        "layer": [{"mark": mark, "encoding": encoding} for mark, encoding in layers],
    }


def _step_rows(figures: Sequence[StepFigures]) -> list[dict[str, Any]]:
    several = len({found.run for found in figures}) > 1
    return [
        {
            "step": f"{found.step} ({found.split})" if several else found.step,
            "series": found.run if several else f"{found.split} images",
            "mIoU": round(found.miou, 2),
            "low": found.low,
            "high": found.high,
            "all background": found.baseline,
            "label": f"{found.miou:.1f}",
            "end": max(found.miou, found.high or 0),
        }
        for found in figures
        if found.miou is not None
    ]


def _nominal(field: str) -> dict[str, Any]:
    """Names in the order of the data, without a title."""
    return {"field": field, "type": "nominal", "sort": None, "title": None}


def balance_charts(figures: Sequence[ClassFigures], images: Mapping[str, int]) -> list[dict[str, Any]]:
    """Over- (right) and under-activation (left) of each class, the most frequent on top: a chart a map and run.

    Args:
        images: class -> number of training images, from the most frequent class to the rarest.
    """
    several = len({found.run for found in figures}) > 1
    charts = {}
    for found in figures:
        if found.label in images and found.over is not None and found.under is not None:
            title = [found.step, *([found.run] if several else [])]
            rows = charts.setdefault((found.step, found.run), (title, []))[1]
            of_class = {"class": f"{found.label} ({images[found.label]:,})", "place": list(images).index(found.label)}
            rows.append({**of_class, "kind": "over-activated", "share": round(found.over, 2)})
            rows.append({**of_class, "kind": "under-activated", "share": -round(found.under, 2)})
    order = {step: place for place, step in enumerate(dict.fromkeys(step for step, _ in charts))}
    return [_balance(title, rows) for (step, _), (title, rows) in sorted(charts.items(), key=lambda c: order[c[0][0]])]


def _balance(title: Sequence[str], rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "$schema": _SCHEMA,
        "title": {"text": list(title), "anchor": "start", "fontSize": 13},
        "width": "container",
        "height": {"step": 18},
        "data": {"values": rows},
        "mark": {"type": "bar"},
        "encoding": {
            "y": {"field": "class", "type": "nominal", "sort": {"field": "place"}, "title": None},
            "x": {
                "field": "share",
                "type": "quantitative",
                "stack": None,
                "scale": {"domain": [-100, 100]},
                "axis": {"labelExpr": "abs(datum.value)", "values": [-100, -50, 0, 50, 100]},
                "title": "missed   ← % of union →   too much",
            },
            "color": {
                "field": "kind",
                "type": "nominal",
                "scale": {"domain": ["under-activated", "over-activated"], "range": [_UNDER, _OVER]},
                "legend": None,
            },
            "tooltip": [
                {"field": "class", "type": "nominal"},
                {"field": "kind", "type": "nominal"},
                {"field": "share", "type": "quantitative", "format": ".1f"},
            ],
        },
    }


def spread_chart(ious: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """How many images have which IoU.

    Args:
        ious: run -> IoU of each of its images, percent.
    """
    rows = []
    for run, values in ious.items():
        counts = [0] * _BINS
        for value in values:
            counts[min(int(value * _BINS / 100), _BINS - 1)] += 1
        rows += [
            {"run": run, "from": 100 * i / _BINS, "to": 100 * (i + 1) / _BINS, "images": count}
            for i, count in enumerate(counts)
        ]
    several = len(ious) > 1
    percent = {"type": "quantitative", "scale": {"domain": [0, 100]}, "bin": {"binned": True, "step": 100 / _BINS}}
    legend = {"orient": "top"} if several else None
    return {
        "$schema": _SCHEMA,
        "width": "container",
        "height": 70,
        "data": {"values": rows},
        "mark": {"type": "bar", "opacity": 0.6 if several else 0.9},
        "encoding": {
            "x": {
                "field": "from",
                "bin": {"binned": True, "step": 100 / _BINS},
                "title": "IoU of an image, %",
                **percent,
            },
            "x2": {"field": "to"},
            "y": {"field": "images", "type": "quantitative", "stack": None, "axis": {"tickCount": 3}},
            "color": {"field": "run", "type": "nominal", "sort": None, "title": None, "legend": legend},
            "tooltip": [
                {"field": "run", "type": "nominal"},
                *({"field": name, "type": "quantitative"} for name in ("from", "to", "images")),
            ],
        },
    }
