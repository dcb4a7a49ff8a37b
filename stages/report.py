"""Stage report: one HTML file that shows a run, or several side by side, to anyone and without network."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Annotated

import click

from sfc.errors import UserError
from sfc.params import Params, read_text, read_yaml
from sfc.report.page import report_page
from stages._paper import PRODUCTS
from stages._places import GivenPath, check_file
from stages._plots import filled_plots
from stages._presets import flat, preset_paths, preset_text
from stages._runs import WORKSPACE, read_run, revision, workspace
from stages._stage import AllParams, output, stage

TITLES = {product: title[0].upper() + title[1:] for product, title in PRODUCTS.items()}
REPORT, COMPARISON = "out/report.html", "out/comparison.html"


@click.argument("experiments", nargs=-1, metavar="[EXP]...")
@click.option("--out", type=GivenPath(path_type=Path, readable=False), help=f"[default: {REPORT}; of EXP {COMPARISON}]")
@stage(
    "Write the report of the workspace, or compare experiments.\n\n"
    "EXP is the name of an experiment, a branch, a tag or a commit, or `workspace`; a single one is compared with the "
    "workspace. Differences are to the first. The file opens by a double click, without network.",
    reads="what the other stages wrote to metrics/ and plots/, out/label_stats.csv, out/examples/; params.yaml, "
    "presets/, the plots of dvc.yaml with their templates; of EXP from git and DVC's cache",
    writes=f"{REPORT}; of EXP {COMPARISON}",
)
def main(experiments: tuple[str, ...], out: Path | None, params: Annotated[Params, AllParams()]) -> str:
    if "" in experiments:
        raise UserError("EXP: '' names nothing; is a variable of the shell not set?")
    if not Path("dvc.yaml").exists():
        raise UserError(
            "dvc.yaml: no such file; the report shows the plots that it names: run it in a clone, see docs/install.md"
        )
    metrics, plots = _declared(read_yaml(read_text("dvc.yaml"), source="dvc.yaml"))
    names = [WORKSPACE, *experiments] if len(experiments) == 1 else list(dict.fromkeys(experiments))
    if len(experiments) > 1 and len(names) == 1:
        raise UserError(f"{names[0]} is named twice; name another one to compare it with")
    out = out or Path(COMPARISON if names else REPORT)
    check_file(out)
    reads = {name: revision(name) for name in names} or {"this run": workspace}
    runs = [read_run(name, read, metrics, list(TITLES)) for name, read in reads.items()]
    for run in runs:
        if not run.metrics or not run.classes:
            raise UserError(f"{run.name}: no metrics or no out/label_stats.csv; run `dvc repro`, or `dvc pull` it")
        if [row.get("class") for row in run.classes] != [row.get("class") for row in runs[0].classes]:
            raise UserError(f"{run.name} and {runs[0].name} are of different classes; compare runs on one data set")
    preset = _nearest_preset(runs[0].params)
    plots = filled_plots(plots, reads, leave_out="out/gallery/")
    page = report_page(runs, titles=TITLES, preset=preset, plots=plots)
    with output(out) as path:
        path.write_text(page, encoding="utf-8")
    return f"report: {out}, {len(page.encode()) / 1e6:.1f} MB, opens in any browser without network;"


def _declared(pipeline) -> tuple[list[str], list[str | dict]]:
    """The metrics files and the plots at the top of dvc.yaml."""
    metrics, plots = (pipeline.get(key) if isinstance(pipeline, dict) else None for key in ("metrics", "plots"))
    for key, found, kind in (("metrics", metrics, str), ("plots", plots, str | dict)):
        if not isinstance(found, list) or not all(isinstance(item, kind) for item in found):
            raise UserError(f"dvc.yaml: no list `{key}` at its top, as git has one; put it back")
    return metrics, plots


def _nearest_preset(params: dict) -> tuple[str, dict]:
    """The preset that fewest params differ from, by name and params; of equals the first by name.

    Those that do not fit the code are left out, as they do until a new method's section is in them.
    """
    found = {}
    for name, path in preset_paths().items():
        with suppress(UserError):
            found[name] = flat(read_yaml(preset_text(path), source=str(path)))
    if not found:
        raise UserError("presets/: no preset to compare params.yaml with; git has them")
    name = min(found, key=lambda name: sum(params.get(key) != found[name].get(key) for key in {*params, *found[name]}))
    return name, found[name]


if __name__ == "__main__":
    main()
