"""Files of the project in conftest.py, how to run paper_tables in it, and what it did there."""

import contextlib
import subprocess
import sys
from pathlib import Path

import pandas as pd
import psutil
import yaml
from click.testing import CliRunner

from stages import paper_tables
from tests.pipeline.project import ROOT

PIPELINE = """
stages:
  train_cam:
    cmd: python stage.py train
    deps: [stage.py, code, "${dataset.root}"]
    params: [dataset, train_cam, ibr, msdw]
    outs: [out/cam.safetensors]
  evaluate:
    foreach: {cam: out/cam.safetensors, seg: out/cam.safetensors}
    do:
      cmd: python stage.py ${key}
      deps: [code, "${item}"]
      params: ["fusion.${train_cam.method}.eval", evaluate]
      outs: ["out/gallery_${key}"]
      metrics:
        - metrics/evaluate_${key}.json: {cache: false}
"""
STAGE = """
import json, os, pathlib, sys, time, yaml
params = yaml.safe_load(open("params.yaml"))
train, msdw, bank = params["train_cam"], params["msdw"], params["ibr"]["n"]
home = pathlib.Path(os.environ["DVC_ROOT"])
pathlib.Path("out").mkdir(exist_ok=True)
while (home / "hang").exists():
    (home / "hanging").write_text("")
    time.sleep(0.1)
if (home / "broken").exists() and train["random_seed"] == 0:
    sys.exit(3)
with open(home / "ran", "a") as log:
    log.write(f"{sys.argv[1]} {train['method']} {train['random_seed']}\\n")
if sys.argv[1] == "train":
    score = 40 + bank + 10 * msdw["w_proto"] + msdw["w_scale"] + msdw["dc_proto"] + 0.5 * msdw["dc_scale"]
    score += 2 * train["random_seed"] + len(open(params["dataset"]["root"]).read())
    pathlib.Path("out/cam.safetensors").write_text(str(score))
else:
    offset = params["fusion"][train["method"]]["eval"]["bg_offset"]
    score = float(pathlib.Path("out/cam.safetensors").read_text()) + offset
    pathlib.Path(f"out/gallery_{sys.argv[1]}").write_text(str(score))
    pathlib.Path("metrics").mkdir(exist_ok=True)
    maps = enumerate(("classifier", "prototype", "sum"))
    found = {name: {"miou": score + i, "miou_many": 2 * score} for i, name in maps} | {"stands_for": "sum"}
    found = found if sys.argv[1] == "cam" else {"miou": score, "miou_many": 2 * score}
    metrics = {"train": {"images": 7, "protocol": "fixed", "baseline_all_background": 3.0, **found}}
    pathlib.Path(f"metrics/evaluate_{sys.argv[1]}.json").write_text(json.dumps(metrics))
"""
PARAMS = yaml.safe_load((ROOT / "presets" / "voc12.yaml").read_text())
PARAMS["dataset"]["root"] = "data"
for section in ("train_cam", "irn", "seg"):
    PARAMS[section]["backbone"]["weights"] = "none"
for method in ("base", "sipe", "sfc"):
    PARAMS["fusion"][method]["eval"]["bg_offset"] = 0.0
PARAMS["msdw"] |= {"w_proto": 1.6, "w_scale": 0.8, "dc_proto": True, "dc_scale": True}
PARAMS["evaluate"]["class_sets"] = {"many": ["person"]}
SCORE = 40 + 4 + 16 + 0.8 + 1.5 + 1  # of setting V with seed 0
V = ("--tables", "6", "--seeds", "1")


def stop(project):
    """Kill the project's workers and what they run; returns whether there were any."""
    inside = [p for p in psutil.process_iter(["cwd"]) if Path(p.info["cwd"] or "/").is_relative_to(project.root)]
    for process in inside:
        process.kill()
    psutil.wait_procs(inside, timeout=30)
    return bool(inside)


def tables(project, *args, status=0):
    command = [sys.executable, "-m", "stages.paper_tables", *args]
    done = subprocess.run(command, cwd=project.root, env=project.env, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stdout + done.stderr
    return done


def listed(project, *args):
    """What `--dry-run` prints, in this process: with DVC loaded it takes a tenth of the time."""
    with contextlib.chdir(project.root):
        done = CliRunner().invoke(paper_tables.main, [*args, "--dry-run"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def refused(project, *args):
    with contextlib.chdir(project.root):
        done = CliRunner().invoke(paper_tables.main, args)
    assert done.exit_code == 1
    (line,) = done.output.splitlines()
    return line


def ran(project):
    log = project.root / "ran"
    return sorted(log.read_text().splitlines()) if log.exists() else []


def state(project):
    """Bytes of everything a person would miss, and what git says."""
    kept = ("bench", ".git", ".dvc", ".scratch", "ran", "hang", "hanging", "broken")
    files = {
        str(path.relative_to(project.root)): path.read_bytes()
        for path in sorted(project.root.rglob("*"))
        if path.is_file() and path.relative_to(project.root).parts[0] not in kept
    }
    return files, [line for line in project.git("status", "--short").splitlines() if "bench" not in line]


def rows(project):
    return pd.read_csv(project.root / "bench" / "paper_tables.csv")
