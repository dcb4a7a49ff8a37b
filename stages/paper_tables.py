"""The paper's tables on the data set that params.yaml names; no DVC stage, but a command that queues experiments."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pandas as pd
import torch

from sfc.backbone.weights import is_weights_file
from sfc.config import DATASET_PATHS
from sfc.errors import UserError
from sfc.params import parse_params
from stages import _queue
from stages._copies import REMEDY, reaches_copies
from stages._errors import errors_as_lines
from stages._facts import Facts, changed, read_params, value
from stages._lock import at_work
from stages._paper import METHODS, PRODUCTS, RUNS, SETTINGS, ablation_table, main_figures, main_table
from stages._places import GivenPath, check_file
from stages._stage import output, say
from stages.dvc_files import check_project

SEED = "train_cam.random_seed"


@dataclass(frozen=True)
class Run:
    """A row of the tables with one seed, as the experiment `name`, which ends in the digest of all that decides it."""

    row: str
    seed: int
    changes: dict[str, str]  # param -> value as typed
    digest: str

    @property
    def name(self) -> str:
        return f"tables-{self.row.replace(' ', '-')}-seed{self.seed}-{self.digest[:7]}"


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--seeds", type=click.IntRange(1), default=3, show_default=True, help=f"{SEED} 0, 1, ...")
@click.option("--tables", metavar="4,5,6,7", help="Which of the ablations.  [default: all]")
@click.option("--main", "main_results", is_flag=True, help=f"Instead: the whole pipeline of {', '.join(METHODS)}.")
@click.option("--products", metavar="cam,crf,...", help=f"With --main: what to measure of {', '.join(PRODUCTS)}.")
@click.option("--jobs", type=click.IntRange(1), help="Experiments at a time  [default: one a GPU, or one]")
@click.option(
    "--out", type=GivenPath(path_type=Path, readable=False), help="Markdown file; the CSV beside it has its name."
)
@click.option("--dry-run", is_flag=True, help="List the experiments and their state; queue and write nothing.")
def main(seeds, tables, main_results, products, jobs, out, dry_run) -> None:
    """Run the experiments behind the paper's tables in DVC's queue, and set our figures beside the paper's.

    They start from the workspace as it is, edits included, run in copies of it, and leave it alone. One whose params,
    code and data, by the hashes DVC recorded, are those of the workspace is not run again, on whatever commit it began;
    one that failed is. Do not edit while experiments are being queued.

    Interrupting or killing this command leaves DVC's workers at work: start it again to go on, or end them by
    `dvc queue stop --kill`. `dvc queue status` and `dvc queue logs NAME` show them.

    Writes bench/paper_tables.md (with --main: bench/main_results.md), or --out, and the CSV beside it.
    """
    try:
        with errors_as_lines(), _queue.interruptible():
            failed, runs = _make(seeds, tables, main_results, products, jobs, out, dry_run)
    except KeyboardInterrupt:
        goes_on = _queue.working()
        raise click.ClickException(
            "interrupted; the queue goes on without this command, see --help"
            if goes_on
            else "interrupted; no experiment runs, and what is queued stays queued: this command started again goes on"
        ) from None
    if failed:
        raise click.ClickException(
            f"{len(failed)} of {len(runs)} experiments failed; dvc queue logs NAME says why, and this command started "
            f"again retries: {', '.join(failed)}"
        )


def _make(seeds, tables, main_results, products, jobs, out, dry_run) -> tuple[list[str], list[Run]]:
    """Run what is missing and write the tables; returns the experiments that failed, and all runs."""
    if out and out.suffix == ".csv":
        raise UserError(f"--out {out}: name the Markdown file; the CSV beside it has its name")
    if products and not main_results:
        raise UserError("--products belongs to --main; the ablations measure the CAMs alone")
    if tables and main_results:
        raise UserError("--tables are of the ablations, --main is instead of them; leave one out")
    numbers = _listed("--tables", tables, {str(number): number for number in RUNS}) if tables else list(RUNS)
    measured = _listed("--products", products, {p: p for p in PRODUCTS}) if products else list(PRODUCTS)
    measured = measured if main_results else ["cam"]
    out = out or Path("bench/main_results.md" if main_results else "bench/paper_tables.md")
    check_file(out)
    check_file(out.with_suffix(".csv"))
    check_project()
    if not _queue.git("rev-parse", "--git-dir"):
        raise UserError("no git repository here, of which DVC's experiments are copies; clone the project")
    targets = [f"evaluate@{product}" for product in measured]
    params, facts = read_params(), Facts()
    parse_params(params)
    _check_data(params)
    rows = {method: {"train_cam.method": method} for method in METHODS} if main_results else _ablations(numbers, params)
    runs = [_run(row, seed, changes, targets, facts) for seed in range(seeds) for row, changes in rows.items()]
    for run in runs:
        parse_params(changed(params, run.changes), source=f"params.yaml, as {run.row} changes it")
    if dry_run:
        _list(runs, facts)
        return [], runs
    with at_work("paper_tables"):
        failed = _run_missing(runs, targets, facts, jobs or torch.cuda.device_count() or 1)
    found = _figures(runs, measured, _done(runs, facts))
    if len(found):
        text = _document(numbers, found, params, main_results=main_results)
        with output(out.with_suffix(".csv")) as path:
            found.to_csv(path, index=False, float_format="%.6f")
        with output(out) as path:
            path.write_text(text, encoding="utf-8")
        click.echo(text)
        say(f"written to {out} and {out.with_suffix('.csv')}")
    return failed, runs


def _listed(option: str, text: str, known: dict) -> list:
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in known:
            raise UserError(f"{option}: {name!r} is none of {', '.join(known)}")
        if names.count(name) > 1:
            raise UserError(f"{option}: {name} comes twice")
    return [known[name] for name in names]


def _check_data(params: dict[str, Any]) -> None:
    """Raise UserError if an experiment's copy of the project would lack data or weights that params name."""
    paths = {f"dataset.{name}": params["dataset"].get(name) for name in DATASET_PATHS}
    trunks = {f"{name}.backbone.weights": section["backbone"]["weights"] for name, section in params.items()
              if isinstance(section, dict) and "backbone" in section}  # fmt: skip
    paths |= {name: weights for name, weights in trunks.items() if is_weights_file(weights)}
    for name, path in paths.items():
        if path and not reaches_copies(path):
            raise UserError(f"{name}: {path} would not be in an experiment's copy of the project; {REMEDY}")


def _ablations(numbers: list[int], params: dict[str, Any]) -> dict[str, dict]:
    for name in ("ibr.n", "msdw.w_proto", "msdw.w_scale"):
        if not value(params, name):
            raise UserError(f"{name} is 0 in params.yaml, so the settings with and without it would be the same run")
    return {
        name: setting.changes for name, setting in SETTINGS.items() if any(name in RUNS[number] for number in numbers)
    }


def _run(row: str, seed: int, changes: dict, targets: list[str], facts: Facts) -> Run:
    # as YAML writes them: false, not False
    typed = {param: str(value).lower() if isinstance(value, bool) else str(value) for param, value in changes.items()}
    typed[SEED] = str(seed)
    return Run(row, seed, typed, facts.wanted(targets, typed))


def _done(runs: list[Run], facts: Facts) -> dict[str, str]:
    """Experiment -> its commit, of those that ended well and ran what their name says."""
    wanted = {run.name: run.digest for run in runs}
    return {
        name: commit for name, commit in _queue.measured() if name in wanted and facts.recorded(commit, wanted[name])
    }


def _list(runs: list[Run], facts: Facts) -> None:
    done, states = _done(runs, facts), _queue.states()
    for run in runs:
        state = states.get(run.name, "to run").lower().replace("failed", "failed, to run again")
        state = "done" if run.name in done else state.replace("success", "to run")
        click.echo(f"{run.name:40}  {state:20}  {' '.join(f'{name}={text}' for name, text in run.changes.items())}")


def _run_missing(runs: list[Run], targets: list[str], facts: Facts, jobs: int) -> list[str]:
    """Queue what was not measured and is not on its way, and wait; returns the experiments that failed."""
    done, states = _done(runs, facts), _queue.states()
    missing = [run for run in runs if run.name not in done]
    if not missing:
        return []
    _queue_all([run for run in missing if states.get(run.name) not in ("Queued", "Running")], targets)
    names = [run.name for run in missing]
    failed = _queue.work_off(names, jobs)
    if failed and (lost := _queue.lost(failed)):
        say("a worker that was about to leave took what it did not run: once more")
        _queue_all([run for run in missing if run.name in lost], targets)
        failed = _queue.work_off(names, jobs)
    done = _done(missing, facts)
    if other := [run.name for run in missing if run.name not in failed and run.name not in done]:
        names = ", ".join(other)
        raise UserError(f"no figures of this code, data and params (edited meanwhile?): {names}; start again")
    return failed


def _queue_all(runs: list[Run], targets: list[str]) -> None:
    for number, run in enumerate(runs, 1):
        _queue.add(run.name, targets, run.changes)
        say(f"queued {number} of {len(runs)}: {run.name}")


def _figures(runs: list[Run], measured: list[str], done: dict[str, str]) -> pd.DataFrame:
    """A row each run, product, split and map, as the metrics files of the experiments have them."""
    rows = []
    for run in (run for run in runs if run.name in done):
        for product in measured:
            metrics = json.loads(_queue.at(done[run.name], f"metrics/evaluate_{product}.json"))
            for split, found in metrics.items():
                shared = {"run": run.row, "seed": run.seed, "experiment": run.name, "product": product, "split": split}
                shared |= {"images": found["images"], "protocol": found.get("protocol", found.get("note"))}
                maps = {name: item for name, item in found.items() if isinstance(item, dict) and "miou" in item}
                shared["stands_for"] = found["stands_for"] if maps else "labels"
                for name, item in (maps or {"labels": found}).items():
                    figures = {key: number for key, number in item.items() if key.startswith(("miou", "false_"))}
                    rows.append({**shared, "map": name, "miou": None, **figures})
    columns = ["run", "seed", "experiment", "product", "split", "images", "protocol", "stands_for", "map", "miou"]
    return pd.DataFrame(rows) if rows else pd.DataFrame(columns=columns)


def _document(numbers: list[int], rows, params: dict[str, Any], *, main_results: bool) -> str:
    kind, root = value(params, "dataset.kind"), value(params, "dataset.root")
    protocols = "; ".join(sorted({str(protocol) for protocol in rows["protocol"]})) or "nothing measured yet"
    splits = ", ".join(f"{split} ({images} images)" for split, images in rows.groupby("split")["images"].max().items())
    paper = "MS COCO 2014 (Table 3: val)" if kind == "coco14" and main_results else "PASCAL VOC 2012"
    head = (
        f"# {'Main results' if main_results else 'Ablations'} on {root} ({kind})\n\n"
        f"Ours: mIoU in percent, mean ± sample standard deviation over seeds of train_cam, on {splits or '-'}. "
        f"Protocol: {protocols}. Paper: {paper}, one figure, beside ours where the split is the same; it is the same "
        "experiment only if this data set is that one (its train figures: the 1,464 images with official masks). "
        "Made by `python -m stages.paper_tables"
        f"{' --main' if main_results else ''}`.\n\n"
    )
    if main_results:
        paper_figures = main_figures(kind, value(params, "seg.model"), value(params, "seg.backbone.arch"))
        return head + main_table(rows, paper=paper_figures)
    return head + "\n".join(
        ablation_table(number, rows, list(value(params, "evaluate.class_sets"))) for number in numbers
    )


if __name__ == "__main__":
    main()
