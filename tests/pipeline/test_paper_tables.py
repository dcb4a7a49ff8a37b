"""The paper's tables: real `dvc exp run` on a pipeline whose stages only look at params and a data file."""

import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial

import pandas as pd
import pytest

from stages._workspace import _at_work
from tests.pipeline.project import ROOT, Project

PIPELINE = """
stages:
  train_sfc:
    cmd: python stage.py train
    deps: [stage.py, data]
    params: [sfc, ibr, msdw]
    outs: [out/sfc.safetensors]
  evaluate:
    foreach: {cam: out/sfc.safetensors}
    do:
      cmd: python stage.py evaluate
      deps: ["${item}", data]
      params: [evaluate]
      outs: [out/gallery]
      metrics: [{metrics/cam.json: {cache: false}}]
"""
STAGE = """
import json, pathlib, sys, time, yaml
params = yaml.safe_load(open("params.yaml"))
seed, msdw, bank = params["sfc"]["random_seed"], params["msdw"], params["ibr"]["n"]
pathlib.Path("out").mkdir(exist_ok=True)
if pathlib.Path("hang").exists():
    pathlib.Path("hanging").write_text("")
    time.sleep(60)
if pathlib.Path("broken").exists() and seed == 0:
    sys.exit(3)
with open("ran", "a") as log:
    log.write(sys.argv[1] + "\\n")
if sys.argv[1] == "train":
    score = 40 + bank + 10 * msdw["w_proto"] + msdw["w_scale"] + msdw["dc_proto"] + 0.5 * msdw["dc_scale"] + 2 * seed
    score += len(open("data").read())
    pathlib.Path("out/sfc.safetensors").write_text(str(score))
else:
    score = float(pathlib.Path("out/sfc.safetensors").read_text())
    pathlib.Path("out/gallery").write_text(str(score))
    pathlib.Path("metrics").mkdir(exist_ok=True)
    maps = enumerate(("classifier", "prototype", "sum"))
    found = {name: {"miou": score + i, "miou_many": 2 * score} for i, name in maps}
    metrics = {"train": {"images": 7, "protocol": "fixed", "baseline_all_background": 3.0, **found}}
    pathlib.Path("metrics/cam.json").write_text(json.dumps(metrics))
"""


@pytest.fixture
def project(tmp_path) -> Project:
    """Committed, with all stages run and a change to params.yaml that is not committed."""
    project = Project(tmp_path)
    project.env["PYTHONPATH"] = str(ROOT)
    (tmp_path / "dvc.yaml").write_text(PIPELINE)
    (tmp_path / "stage.py").write_text(STAGE)
    (tmp_path / "data").write_text("1")
    (tmp_path / ".gitignore").write_text("/out/\n/.scratch/\nran\nhang\nhanging\nbroken\n")
    shutil.copy(ROOT / "presets" / "voc12.yaml", tmp_path / "params.yaml")
    project.git("init", "--quiet")
    for key, value in {"user.name": "tests", "user.email": "tests@example.invalid", "commit.gpgsign": "false"}.items():
        project.git("config", key, value)
    project.dvc("init", "--quiet")
    project.commit()
    project.repro()
    project.commit()
    (tmp_path / "params.yaml").write_text((tmp_path / "params.yaml").read_text() + "# mine\n")
    (tmp_path / "ran").unlink()
    return project


def tables(project, *args, status=0):
    command = [sys.executable, "-m", "stages.paper_tables", *args]
    done = subprocess.run(command, cwd=project.root, env=project.env, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stdout + done.stderr
    return done


def ran(project):
    log = project.root / "ran"
    return log.read_text().split() if log.exists() else []


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


def test_runs_once_collects_and_leaves_the_workspace_as_it_was(project):
    before = state(project)
    assert tables(project, "--tables", "6", "--seeds", "2", "--dry-run").stdout.count("to run (cam)") == 2
    assert ran(project) == []
    assert not (project.root / "bench").exists()

    tables(project, "--tables", "6", "--seeds", "2")
    assert ran(project) == ["train", "evaluate"] * 2
    assert state(project) == before
    text = (project.root / "bench" / "paper_tables.md").read_text()
    scores = [40 + 4 + 16 + 0.8 + 1.5 + 1 + 2 * seed for seed in (0, 1)]
    mean = sum(scores) / 2
    assert f"| classifier | train | 2 | {mean:.1f} ± {2**0.5:.1f} | 64.2 |" in text
    assert f"| sum | train | 2 | {mean + 2:.1f} ± {2**0.5:.1f} | 64.7 |" in text
    assert "train (7 images)" in text
    assert "Protocol: fixed" in text

    tables(project, "--tables", "6", "--seeds", "2")
    assert ran(project) == ["train", "evaluate"] * 2
    assert len(rows(project)) == 6


def test_figures_of_other_data_code_or_params_are_not_mixed(project):
    tables(project, "--tables", "6", "--seeds", "1")
    old = rows(project)
    edits = {
        "data": ("1", "123"),
        "stage.py": ("import json", "import  json"),
        "params.yaml": ("epochs: 6", "epochs: 7"),
    }
    files = {name: (project.root / name).read_text() for name in edits}
    for name, edit in edits.items():
        (project.root / name).write_text(files[name].replace(*edit, 1))
        assert "to run (cam)" in tables(project, "--tables", "6", "--seeds", "1", "--dry-run").stdout, name
        if name != "params.yaml":
            (project.root / name).write_text(files[name])
    tables(project, "--tables", "6", "--seeds", "1")  # with the params changed
    new = rows(project)
    assert new.iloc[: len(old)].equals(old)
    assert new["fingerprint"].nunique() == 2
    assert "| sum | train | 1 |" in (project.root / "bench" / "paper_tables.md").read_text()
    (project.root / "params.yaml").write_text(files["params.yaml"])
    assert "done" in tables(project, "--tables", "6", "--seeds", "1", "--dry-run").stdout


def test_a_run_that_fails_says_so_and_the_rest_goes_on(project):
    (project.root / "broken").write_text("")
    before = state(project)
    done = tables(project, "--tables", "6", "--seeds", "2", status=1)
    assert "V, seed 0 failed" in done.stderr
    assert done.stderr.splitlines()[-1] == "Error: 1 of 2 runs failed: V seed 0; start again to retry"
    assert set(rows(project)["seed"]) == {1}
    assert state(project) == before
    (project.root / "broken").unlink()
    tables(project, "--tables", "6", "--seeds", "2")
    assert set(rows(project)["seed"]) == {0, 1}


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_an_interrupted_command_leaves_or_finds_the_workspace_as_it_was(project, stop):
    before = state(project)
    (project.root / "hang").write_text("")
    command = [sys.executable, "-m", "stages.paper_tables", "--tables", "4", "--seeds", "1"]
    # as a script's background job, which inherits that SIGINT is ignored
    ignore = partial(signal.signal, signal.SIGINT, signal.SIG_IGN)
    process = subprocess.Popen(command, cwd=project.root, env=project.env, stderr=subprocess.DEVNULL, preexec_fn=ignore)
    deadline = time.monotonic() + 60
    while not (project.root / "hanging").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(process.pid, stop)
    assert process.wait(30) != 0
    (project.root / "hang").unlink()
    if stop == signal.SIGKILL:  # nobody could clean up: the next one does, first of all
        assert "its dvc (process" in tables(project, "--tables", "6", "--seeds", "1", status=1).stderr
        for pid in _orphans(project):
            os.kill(pid, signal.SIGKILL)
        assert state(project) != before
        params = project.root / "params.yaml"
        left = params.read_text()
        params.write_text(left.replace("epochs: 6", "epochs: 9"))
        refused = tables(project, "--tables", "6", "--seeds", "1", status=1).stderr
        assert "has the files as they were before it: copy back what you want" in refused
        params.write_text(left)
        assert "an earlier run was killed" in tables(project, "--tables", "6", "--seeds", "1").stderr
        assert rows(project)["miou"][0] == pytest.approx(40 + 4 + 16 + 0.8 + 1.5 + 1)  # V, not what base had set
    assert state(project) == before


def test_a_process_that_has_ended_is_not_at_work():
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, start_new_session=True)
    assert _at_work(process.pid)
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # not collected yet, as under a slow init
    assert not _at_work(process.pid)
    process.communicate()


def _orphans(project):
    """What a killed command left running: dvc and its stage, in the project's folder."""
    for entry in os.scandir("/proc"):
        where = f"/proc/{entry.name}/cwd"
        if entry.name.isdigit() and os.path.exists(where) and os.readlink(where) == str(project.root):
            yield int(entry.name)


def test_outputs_that_could_not_be_put_back_are_refused_before_anything_runs(project):
    (project.root / "out" / "gallery").unlink()
    (project.root / "out" / "gallery").write_text("made by hand")
    before = state(project)
    done = tables(project, "--tables", "6", status=1)
    assert "out/gallery: not what dvc.lock and DVC's cache hold" in done.stderr
    assert ran(project) == []
    assert state(project) == before


def test_outputs_that_were_not_there_are_not_there_afterwards(project):
    shutil.rmtree(project.root / "out")
    before = state(project)
    tables(project, "--tables", "6", "--seeds", "1")
    assert state(project) == before
