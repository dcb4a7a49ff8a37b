"""`python -m bench.five_runs`: the components of SFC one by one, as DVC experiments, into one table.

Each run is a `dvc exp run evaluate@cam` in the workspace; its CAM figures go to a CSV at once, and a run that is in the
CSV already is not made again, so the command goes on where it was stopped. Afterwards params.yaml is as it was.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import click
import pandas as pd

OFF = {"msdw.w_proto": 0.0, "msdw.w_scale": 0.0}
NO_DC = {"msdw.dc_proto": "false", "msdw.dc_scale": "false"}
RUNS = {  # paper, Tables 4 and 5; what a run does not name has the value of params.yaml
    "base": {"ibr.n": 0, **OFF},
    "IBR": OFF,
    "MSDW": {"ibr.n": 0},
    "IBR + MSDW, no DC": NO_DC,
    "IBR + MSDW": {},
}
FIGURES = ("miou", "miou_many", "miou_medium", "miou_few")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--seeds", default=3, show_default=True, help="runs of each kind, with sfc.random_seed 0, 1, ...")
@click.option("--csv", "table", type=click.Path(path_type=Path), default="bench/five_runs.csv", show_default=True)
def main(seeds: int, table: Path) -> None:
    """Run what is missing in the CSV and print mean and standard deviation of every figure, in percent."""
    rows = pd.read_csv(table).to_dict("records") if table.exists() else []
    params = Path("params.yaml").read_text(encoding="utf-8")
    for seed in range(seeds):
        for run, changes in RUNS.items():
            if any(row["run"] == run and row["seed"] == seed for row in rows):
                continue
            Path("params.yaml").write_text(params, encoding="utf-8")
            sets = [f"-S{name}={value}" for name, value in {**changes, "sfc.random_seed": seed}.items()]
            try:
                subprocess.run(["dvc", "exp", "run", "evaluate@cam", *sets], check=True)
                rows += _figures(run, seed)
            finally:
                Path("params.yaml").write_text(params, encoding="utf-8")
            pd.DataFrame(rows).to_csv(table, index=False)
    _show(pd.DataFrame(rows))


def _figures(run: str, seed: int) -> list[dict]:
    measured = json.loads(Path("metrics/cam.json").read_text(encoding="utf-8"))
    return [
        {"run": run, "seed": seed, "split": split, "cam": kind, **{name: values[kind][name] for name in FIGURES}}
        for split, values in measured.items()
        for kind in ("classifier", "prototype", "sum")
    ]


def _show(rows: pd.DataFrame) -> None:
    for (split, kind), part in rows.groupby(["split", "cam"]):
        click.echo(f"\n{split}, {kind}\n| run | seeds | {' | '.join(FIGURES)} |\n|{'--|' * (len(FIGURES) + 2)}")
        for run in RUNS:
            values = part[part["run"] == run][list(FIGURES)]
            cells = [f"{values[name].mean():.1f} ± {values[name].std():.1f}" for name in FIGURES]
            click.echo(f"| {run} | {len(values)} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
