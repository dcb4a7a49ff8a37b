"""The paper's tables on the data set that params.yaml names; no DVC stage, but a command that runs experiments."""

from __future__ import annotations

from pathlib import Path

import click

from sfc.errors import UserError
from sfc.params import Params, load_params
from stages._experiments import Figures, Fingerprints, Run
from stages._paper import METHODS, PRODUCTS, RUNS, SETTINGS, ablation_table, main_figures, main_table
from stages._stage import output, say
from stages._workspace import Workspace


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--seeds", type=click.IntRange(1), default=3, show_default=True, help="sfc.random_seed 0, 1, ...")
@click.option("--tables", metavar="4,5,6,7", default="4,5,6,7", show_default=True, help="Which of the ablations.")
@click.option("--main", "main_results", is_flag=True, help="Instead: the whole pipeline of the methods cam, sipe, sfc.")
@click.option("--products", metavar="cam,crf,...", help=f"With --main: what to measure of {', '.join(PRODUCTS)}.")
@click.option("--out", type=click.Path(path_type=Path), help="Markdown file; the CSV beside it has its name.")
@click.option("--dry-run", is_flag=True, help="List the runs and which are done; run and write nothing.")
def main(seeds: int, tables: str, main_results: bool, products: str | None, out: Path | None, dry_run: bool) -> None:
    """Run the experiments behind the paper's tables by `dvc exp run`, and set our figures beside the paper's.

    Figures go to a CSV as soon as a run has ended, under all that decides them: the params set, and what DVC tracks of
    other params, code and data. What is there is not run again, so an interrupted command goes on where it stopped.
    Afterwards params.yaml, dvc.lock, metrics/ and out/ are what they were before. Do not edit code meanwhile.

    Writes bench/paper_tables.md (with --main: bench/main_results.md), or --out, and the CSV beside it.
    """
    try:
        if products and not main_results:
            raise UserError("--products belongs to --main; the ablations measure the CAMs alone")
        numbers = _listed("--tables", tables, {str(number): number for number in RUNS})
        measured = _listed("--products", products, {p: p for p in PRODUCTS}) if products else list(PRODUCTS)
        measured = measured if main_results else ["cam"]
        out = out or Path("bench/main_results.md" if main_results else "bench/paper_tables.md")
        with Workspace(Path(".scratch/paper_tables")) as workspace:
            params = load_params()
            runs = _method_runs(seeds) if main_results else _ablation_runs(numbers, seeds, params)
            figures, fingerprints = Figures(out.with_suffix(".csv")), Fingerprints(measured)
            wanted = [(run, product, fingerprints.of(product, run)) for run in runs for product in measured]
            if dry_run:
                _list(runs, wanted, figures)
                return
            failed = _run_missing(runs, wanted, figures, workspace)
        text = _document(numbers, figures.of(wanted), params, main_results=main_results)
        with output(out) as path:
            path.write_text(text, encoding="utf-8")
    except UserError as error:
        raise click.ClickException(str(error)) from None
    click.echo(text)
    say(f"written to {out} and {out.with_suffix('.csv')}")
    if failed:
        raise click.ClickException(
            f"{len(failed)} of {len(runs)} runs failed: {', '.join(failed)}; start again to retry"
        )


def _listed(option: str, text: str, known: dict) -> list:
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in known:
            raise UserError(f"{option}: {name!r} is none of {', '.join(known)}")
    return [known[name] for name in names]


def _ablation_runs(numbers: list[int], seeds: int, params: Params) -> list[Run]:
    for name in ("ibr.n", "msdw.w_proto", "msdw.w_scale"):
        if not params.get(name):
            raise UserError(f"{name} is 0 in params.yaml, so the settings with and without it would be the same run")
    names = [name for name in SETTINGS if any(name in RUNS[number] for number in numbers)]
    return [_run(name, seed, SETTINGS[name].changes) for seed in range(seeds) for name in names]


def _method_runs(seeds: int) -> list[Run]:
    return [_run(method, seed, {"sfc.method": method}) for seed in range(seeds) for method in METHODS]


def _run(name: str, seed: int, changes: dict) -> Run:
    # as YAML writes them: false, not False
    typed = {param: str(value).lower() if isinstance(value, bool) else str(value) for param, value in changes.items()}
    return Run(name, seed, {**typed, "sfc.random_seed": str(seed)})


def _missing(run: Run, wanted: list, figures: Figures) -> list[tuple[str, str]]:
    """(product, fingerprint) of what has not been measured of a run."""
    return [(product, key) for of, product, key in wanted if of == run and not figures.has(run, product, key)]


def _list(runs: list[Run], wanted: list, figures: Figures) -> None:
    for run in runs:
        missing = _missing(run, wanted, figures)
        state = f"to run ({', '.join(product for product, _ in missing)})" if missing else "done"
        click.echo(f"{run.name:5} seed {run.seed}  {state:20}  {run.key}")


def _run_missing(runs: list[Run], wanted: list, figures: Figures, workspace: Workspace) -> list[str]:
    """Run what is not in the table; returns the runs that failed."""
    todo = {run.key: (run, missing) for run in runs if (missing := _missing(run, wanted, figures))}
    failed: list[str] = []
    if not todo:
        return failed
    products = list(dict.fromkeys(product for _, missing in todo.values() for product, _ in missing))
    with workspace.kept([f"evaluate@{product}" for product in products]):
        for number, (run, missing) in enumerate(todo.values(), 1):
            say(f"run {number} of {len(todo)}: {run.name}, seed {run.seed}: {run.key}")
            status = workspace.run([f"evaluate@{product}" for product, _ in missing], run.changes)
            if status:
                say(f"{run.name}, seed {run.seed} failed: dvc exp run ended with status {status}, see above; going on")
                failed.append(f"{run.name} seed {run.seed}")
                continue
            now = Fingerprints(products)
            for product, key in missing:
                if now.of(product, run) != key:
                    raise UserError("code or data were edited while a run was under way, so its figures are of neither")
                figures.add(run, product, key)
    return failed


def _document(numbers: list[int], rows, params: Params, *, main_results: bool) -> str:
    dataset = params.get("dataset")
    protocols = "; ".join(sorted({str(protocol) for protocol in rows["protocol"]})) or "nothing measured yet"
    splits = ", ".join(f"{split} ({images} images)" for split, images in rows.groupby("split")["images"].max().items())
    paper = "MS COCO 2014 (Table 3: val)" if dataset.kind == "coco14" and main_results else "PASCAL VOC 2012"
    head = (
        f"# {'Main results' if main_results else 'Ablations'} on {dataset.root} ({dataset.kind})\n\n"
        f"Ours: mIoU in percent, mean ± sample standard deviation over seeds of train_sfc, on {splits or '-'}. "
        f"Protocol: {protocols}. Paper: {paper}, one figure, beside ours where the split is the same; it is the same "
        "experiment only if this data set is that one (its train figures: the 1,464 images with official masks). "
        "Made by `python -m stages.paper_tables"
        f"{' --main' if main_results else ''}`.\n\n"
    )
    if main_results:
        seg = params.get("seg")
        return head + main_table(rows, paper=main_figures(dataset.kind, seg.model, seg.backbone.arch))
    return head + "\n".join(ablation_table(number, rows, list(params.get("evaluate.class_sets"))) for number in numbers)


if __name__ == "__main__":
    main()
