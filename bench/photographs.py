"""`python -m bench.photographs`: Base, SIPE and SFC on the packed sample at full size, in pieces of some minutes.

SFC is trained as released but for its DC, and with section `sfc` of presets/voc_sample.yaml, SIPE's seeds
(sfc-structure).

Each run has a folder of its own in WORK, with params.yaml and out/ as in a clone. What a call does not finish, the next
one goes on with: finished stages are marked, a training goes on from its checkpoint. OUT gets tables of all that has
been measured so far, by the params' own rule and as `bench.chosen` reads, the curves of the trainings, and what the
stages have said.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import click
import pandas as pd

from bench.chosen_counts import Counts
from bench.chosen_tables import tables
from bench.kept_networks import network_path
from bench.measure import machine
from bench.preset_table import table
from bench.sizes import VOC, changed
from sfc.errors import UserError
from sfc.methods import METHODS
from sfc.params import parse_params, read_text, read_yaml
from stages._errors import errors_as_lines
from stages._overlay import overlaid
from stages._stage import device

HERE = Path(__file__).parent
KEPT = (279, 558, 930)  # steps whose networks are measured, too
UNFINISHED = 75  # EX_TEMPFAIL: call it again
TRAINED = {method: {"train_cam.method": method} for method in METHODS} | {
    "sfc-structure": {
        "train_cam.method": "sfc",
        "sfc.prototype.mode": "structure",
        "sfc.prototype.bkg_scale": 0.5,
        "sfc.prototype.empty": "skip",
        "sfc.seed_pcm_iters": 0,
    }
}
AT_ONCE = 4  # measurements, on one GPU
GRACE = 60  # seconds that a training has for its step and its checkpoint


class OutOfTime(Exception):  # noqa: N818 - no error
    """The minutes of this call are over, or notice has been given."""


@dataclass(frozen=True)
class Plan:
    """One training: `trained` is a name in TRAINED, `epochs` decides the number of its steps, `seed` what is drawn."""

    trained: str
    epochs: int
    seed: int

    @property
    def name(self) -> str:
        return f"{self.trained}-{self.epochs}-seed{self.seed}"


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--sample", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True)
@click.option("--work", type=click.Path(file_okay=False, path_type=Path), required=True, help="For runs; keep it.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="For results.")
@click.option("--minutes", type=float, default=9.0, show_default=True, help="After which this call ends.")
@click.option("--method", "methods", type=click.Choice(list(TRAINED)), multiple=True, default=list(TRAINED))
@click.option("--epochs", type=int, multiple=True, default=(10, 43), show_default=True, help="930 and 3,999 steps.")
@click.option("--seed", "seeds", type=int, multiple=True, default=(10, 11, 12), show_default=True)
@click.option("--keep", type=int, multiple=True, default=KEPT, show_default=True, help="Steps measured, too.")
@click.option("-S", "--set", "changes", multiple=True, metavar="NAME=VALUE", help="A param; for a run in small.")
def main(
    sample: Path,
    work: Path,
    out: Path,
    minutes: float,
    methods: tuple[str, ...],
    epochs: tuple[int, ...],
    seeds: tuple[int, ...],
    keep: tuple[int, ...],
    changes: tuple[str, ...],
) -> None:
    """Train and measure every method, each short training before any long one, seed after seed.

    A call goes on where the last one ended. The exit status is 75 while there is more to do.
    """
    with errors_as_lines():
        out.mkdir(parents=True, exist_ok=True)
        clock = _Clock(minutes)
        plans = [Plan(method, count, seed) for seed in seeds for count in epochs for method in methods]
        runs = [_Run(plan, sample.resolve(), work.resolve(), clock, keep, changes) for plan in plans]
        unfinished = None
        try:
            for run in runs:
                run.finish()
        except OutOfTime:
            unfinished = run
        finally:
            _write_results(runs, out, work / "log.txt")
    click.echo(table(_measured(runs)))
    if unfinished is not None:
        click.echo(f"photographs: not finished ({unfinished.plan.name} is next); call it again", err=True)
        sys.exit(UNFINISHED)


class _Clock:
    """How long a call may go on; SIGTERM ends that time at once."""

    def __init__(self, minutes: float):
        self._end = time.monotonic() + 60 * minutes
        signal.signal(signal.SIGTERM, self._over)

    def _over(self, number, frame) -> None:
        self._end = 0.0

    def left(self) -> float:
        return self._end - time.monotonic()

    def check(self) -> None:
        """Raise OutOfTime when it is over."""
        if self.left() <= 0:
            raise OutOfTime

    def run(self, command: list[str], folder: Path, log: Path) -> None:
        """Run a command to its end; raises OutOfTime where it has to be ended, UserError where it fails."""
        self.check()
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")])}
        with log.open("ab") as file:
            file.write(f"\n$ {folder.name}: {' '.join(command[2:])}\n".encode())
            file.flush()
            child = subprocess.Popen(command, cwd=folder, env=environment, stdout=file, stderr=file)
            while child.poll() is None and self.left() > 0:
                time.sleep(0.2)
            if child.poll() is None:
                child.send_signal(signal.SIGTERM)
                try:
                    child.wait(GRACE)
                except subprocess.TimeoutExpired:
                    child.kill()
                    child.wait()
        if child.returncode == 128 + signal.SIGTERM or (child.returncode < 0 and self.left() <= 0):
            raise OutOfTime
        if child.returncode:
            raise UserError(f"{folder.name}: {command[2]} ended with {child.returncode}; see {log}")


class _Run:
    """One training and what is measured of it, in a folder of its own."""

    def __init__(self, plan: Plan, sample: Path, work: Path, clock: _Clock, keep: tuple[int, ...], changes: tuple):
        self.plan, self.folder = plan, work / plan.name
        self._clock, self._log, self._keep = clock, work / "log.txt", keep
        self.params = _params(plan, sample, changes)
        path = self.folder / "params.yaml"
        if path.exists() and read_yaml(read_text(path), source=str(path)) != self.params:
            raise UserError(f"{path}: of other params or another sample; name another folder as --work")
        self.folder.mkdir(parents=True, exist_ok=True)
        path.write_text(_yaml(self.params))

    def finish(self) -> None:
        """Train and measure what is left of it."""
        for stage in ("prepare", "label_stats"):
            self._once(stage, ["-m", f"stages.{stage}"])
        self._measure_kept()
        kept = [str(self.folder / "networks"), *map(str, self._keep)]
        self._once("train_cam", ["-m", "bench.kept_networks", *kept])
        steps = json.loads((self.folder / "metrics/train_cam.json").read_text())["steps"]
        last = network_path(self.folder / "networks", steps)
        if not last.exists():
            os.link(self.folder / "out/cam.safetensors", last)
        self._measure_kept()

    def measured(self) -> list[dict]:
        """What `evaluate` has written of each network so far, with its run."""
        paths = [path for network in self.networks() if (path := self._figures(network)).exists()]
        return [{"run": self.plan.name, **json.loads(path.read_text())} for path in paths]

    def networks(self) -> list[Path]:
        """Those kept so far."""
        return sorted((self.folder / "networks").glob("*.safetensors"))

    def _figures(self, network: Path) -> Path:
        return self.folder / f"measured/{network.stem}.json"

    def _once(self, stage: str, arguments: list[str]) -> None:
        mark = self.folder / "done" / stage
        if not mark.exists():
            click.echo(f"photographs: {self.plan.name}: {stage}", err=True)
            self._clock.run([sys.executable, *arguments], self.folder, self._log)
            mark.parent.mkdir(exist_ok=True)
            mark.touch()

    def _measure_kept(self) -> None:
        """Every network that is there; several at once, since most of each is its start."""
        networks = self.networks()
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(self._measure, networks))
        if not all(Counts(network).complete() for network in networks):
            click.echo(f"photographs: {self.plan.name}: readings chosen on training images", err=True)
            self._clock.run([sys.executable, "-m", "bench.chosen", str(self.folder)], self.folder, self._log)

    def _measure(self, network: Path) -> None:
        path = self._figures(network)
        if path.exists():
            return
        found = self._read(network)
        path.parent.mkdir(exist_ok=True)
        path.with_suffix(".partial").write_text(json.dumps(found))
        os.replace(path.with_suffix(".partial"), path)

    def _read(self, network: Path) -> dict:
        """Infer and measure the CAMs of one network as the run's params say, in a folder that does not stay."""
        self._clock.check()
        folder = self.folder / network.stem
        if not (folder / "out/cams").exists():  # complete or not at all
            click.echo(f"photographs: {self.plan.name}: step {int(network.stem)}", err=True)
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(self.folder / "out", folder / "out", ignore=shutil.ignore_patterns("*.safetensors"))
            os.link(network, folder / "out/cam.safetensors")
            shutil.copy(self.folder / "params.yaml", folder)
            self._clock.run([sys.executable, "-m", "stages.infer_cam"], folder, self._log)
        self._clock.run([sys.executable, "-m", "stages.evaluate", "cam"], folder, self._log)
        metrics = json.loads((folder / "metrics/evaluate_cam.json").read_text())
        shutil.rmtree(folder)
        return {"step": int(network.stem), "metrics": metrics["val"]}


def _params(plan: Plan, sample: Path, changes: tuple[str, ...]) -> dict:
    """All params of a run; UserError for one that does not fit."""
    values = read_yaml(
        overlaid(read_text(VOC), read_text(HERE / "photographs.yaml"), source="photographs.yaml"), source="params"
    )
    given = {
        "dataset.root": str(sample / "VOC2012"),
        "dataset.labels": str(sample / "labels.csv"),
        "train_cam.backbone.weights": str(sample / "weights.safetensors"),
        "train_cam.epochs": plan.epochs,
        "train_cam.random_seed": plan.seed,
        **TRAINED[plan.trained],
    }
    for change in changes:
        name, equals, value = change.partition("=")
        if not equals:
            raise UserError(f"--set {change}: expected NAME=VALUE")
        given[name] = read_yaml(value, source=f"--set {name}")
    values = changed(values, given)
    parse_params(values, source="bench/photographs.yaml")
    return values


def _yaml(params: dict) -> str:
    return json.dumps(params, indent=1) + "\n"  # JSON is YAML


def _measured(runs: list[_Run]) -> list[dict]:
    return [found for run in runs for found in run.measured()]


def _write_results(runs: list[_Run], out: Path, log: Path) -> None:
    """Leave table, figures, curves and log in a folder."""
    measured = _measured(runs)
    text = f"{machine(device())}\n\n{table(measured)}\n"
    (out / "photographs.md").write_text(text)
    (out / "photographs.json").write_text(json.dumps(measured, indent=1) + "\n")
    curves = [(run.plan.name, run.folder / "plots/train_cam.csv") for run in runs]
    found = [pd.read_csv(path).assign(run=name) for name, path in curves if path.exists()]
    if found:
        pd.concat(found).to_csv(out / "photographs_curves.csv", index=False)
    if log.exists():
        shutil.copyfile(log, out / "photographs_log.txt")
    networks = [network for run in runs for network in run.networks()]
    (out / "photographs_chosen.md").write_text(f"{tables(networks)}\n")


if __name__ == "__main__":
    main()
