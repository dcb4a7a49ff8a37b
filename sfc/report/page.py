"""One HTML file that holds all it needs: text and tables written out, charts and galleries as data for its scripts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from sfc.report.charts import balance_charts, spread_chart, steps_chart
from sfc.report.gallery import gallery
from sfc.report.run import Run, class_figures, step_figures
from sfc.report.tables import (
    MEASURES,
    all_metrics,
    class_columns,
    data_rows,
    differences,
    params_rows,
    set_names,
    side_by_side,
    tried_on,
)
from sfc.report.vega_scripts import vega_scripts

_FOLDER = Path(__file__).with_name("page")
_SCRIPTS = ("charts.js", "table.js", "pictures.js", "gallery.js", "viewer.js")


@dataclass(frozen=True)
class Plot:
    """A plot of dvc.yaml: a filled Vega-Lite `spec`, or an `image` as a data URI."""

    title: str
    spec: Mapping[str, Any] | None = None
    image: str | None = None


def report_page(
    runs: Sequence[Run],
    *,
    titles: Mapping[str, str],
    preset: tuple[str, Mapping[str, Any]],
    plots: Sequence[Plot],
) -> str:
    """The page of one run, or of several side by side.

    Args:
        titles: product -> title, in pipeline order.
        preset: name and params of the preset that params are compared with.
        plots: what to draw beside the report's own charts.
    """
    specs: list[Mapping[str, Any]] = []

    def chart(spec: Mapping[str, Any]) -> int:
        specs.append(spec)
        return len(specs) - 1

    steps = side_by_side([figures for run in runs for figures in step_figures(run, titles)])
    classes = [figures for run in runs for figures in class_figures(run, titles)]
    images = _head_to_tail(runs[0])
    overview = steps_chart(steps)
    balance = [chart(spec) for spec in balance_charts(classes, images)]
    spreads = {product: chart(spread_chart(ious)) for product in titles if (ious := _ious(runs, product))}
    shown = gallery(runs, titles)
    context = {
        "runs": runs,
        "several": len(runs) > 1,
        "preset": preset[0],
        "params": params_rows(runs, preset[1]),
        "splits": data_rows(runs[0].metrics.get("prepare", {})),
        "steps": list(zip(steps, differences(steps, runs[0].name), strict=True)),
        "sets": set_names(steps, runs[0].params),
        "measured": any(figures.miou is not None for figures in steps),
        "tuned": [(run.name, tried_on(run)) for run in runs if tried_on(run)],
        "overview": None if overview is None else chart(overview),
        "classes": runs[0].classes,
        "images": images,
        "columns": class_columns(classes, runs[0].name),
        "measures": MEASURES,
        "balance": balance,
        "analysis": [run.metrics.get("analyse", {}) for run in runs],
        "spreads": spreads,
        "products": shown["products"],
        "plots": [(plot, None if plot.spec is None else chart(plot.spec)) for plot in plots],
        "metrics": all_metrics(runs),
        "vega": Markup(vega_scripts()),
        "style": Markup(_text("report.css")),
        "script": Markup("\n".join(map(_text, _SCRIPTS))),
        "data": {"charts": specs, "gallery": shown},
    }
    return _environment().get_template("report.html").render(context)


def _head_to_tail(run: Run) -> dict[str, int]:
    """Class -> its training images, from the most frequent class to the rarest; equal counts in the given order."""
    counts = {row["class"]: int(row["n"]) for row in run.classes}
    return dict(sorted(counts.items(), key=lambda count: -count[1]))


def _ious(runs: Sequence[Run], product: str) -> dict[str, list[float]]:
    found = {run.name: run.examples[product].index["ious"] for run in runs if product in run.examples}
    return {name: ious for name, ious in found.items() if ious}


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters |= {"embedded": _embedded, "figure": _figure, "signed": _signed, "value": _value}
    return environment


def _text(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")


def _embedded(values: Any) -> Markup:
    """JSON that cannot end the script element it stands in."""
    text = json.dumps(values, ensure_ascii=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029"))


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _signed(value: float | None) -> str:
    return "" if value is None else f"{value:+.1f}"


def _value(value: Any) -> str:
    """A param or metric as YAML would have it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{name}: {_value(item)}' for name, item in value.items())}}}"
    return f"{value:,}" if isinstance(value, int) else str(value)
