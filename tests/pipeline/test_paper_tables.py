"""The paper's tables: DVC's real queue and workers on a pipeline whose stages only look at params and a data file."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest
import yaml
from click.testing import CliRunner

from stages import _queue, paper_tables
from stages._lock import at_work
from tests.pipeline.project import ROOT, Project

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


@pytest.fixture(scope="module")
def measured(tmp_path_factory) -> Project:
    """Committed, with all stages run; for `project` to copy."""
    project = Project(tmp_path_factory.mktemp("measured"))
    root = project.root
    (root / "dvc.yaml").write_text(PIPELINE)
    (root / "stage.py").write_text(STAGE)
    (root / "code").mkdir()
    (root / "code" / "a.py").write_text("1")
    (root / "data").write_text("1")
    (root / "params.yaml").write_text(yaml.safe_dump(PARAMS))
    (root / ".gitignore").write_text("/out/\n/.scratch/\n/data\nran\nhang\nhanging\nbroken\n")
    project.git("init", "--quiet")
    for key, value in {"user.name": "tests", "user.email": "tests@example.invalid", "commit.gpgsign": "false"}.items():
        project.git("config", key, value)
    project.dvc("init", "--quiet")
    project.dvc("add", "--quiet", "data")
    project.commit()
    project.repro()
    project.commit()
    (root / "ran").unlink()
    return project


@pytest.fixture
def project(measured, tmp_path) -> Project:
    """A copy with a change to params.yaml that is not committed; ends with no process left."""
    project = Project(tmp_path / "project")
    project.env["PYTHONPATH"] = str(ROOT)
    shutil.copytree(measured.root, project.root, symlinks=True)
    with (project.root / "params.yaml").open("a") as params:
        params.write("# mine\n")
    yield project
    stop(project)


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


V = ("--tables", "6", "--seeds", "1")


def test_runs_once_and_leaves_the_workspace_alone(project):
    before = state(project)
    found = listed(project, "--tables", "6", "--seeds", "2").splitlines()
    assert [line.split()[0][:-7] for line in found] == ["tables-V-seed0-", "tables-V-seed1-"]
    assert all(" to run " in line for line in found)
    assert ran(project) == []
    assert not (project.root / "bench").exists()

    done = tables(project, "--tables", "6", "--seeds", "2", "--jobs", "2")
    assert "2 of 2 experiments done" in done.stderr
    once = ["cam sfc 0", "cam sfc 1", "train sfc 0", "train sfc 1"]
    assert ran(project) == once
    assert state(project) == before
    text = (project.root / "bench" / "paper_tables.md").read_text()
    assert f"| classifier | train | 2 | {SCORE + 1:.1f} ± {2**0.5:.1f} | 64.2 |" in text
    assert f"| sum | train | 2 | {SCORE + 3:.1f} ± {2**0.5:.1f} | 64.7 |" in text
    assert "train (7 images)" in text
    assert "Protocol: fixed" in text

    project.commit()  # with params.yaml as it was measured: another commit, the same figures
    tables(project, "--tables", "6", "--seeds", "2")
    assert ran(project) == once
    assert len(rows(project)) == 6


def test_main_results_are_of_the_map_that_stands_for_each_method(project):
    # every method has its own params: they must count as its own alone
    tables(project, "--main", "--products", "cam,seg", "--seeds", "1", "--jobs", "2")
    text = (project.root / "bench" / "main_results.md").read_text()
    for method in ("base", "sipe", "sfc"):
        assert f"| {method} | CAM | train | 1 | {SCORE + 2:.1f} |" in text
        assert f"| {method} | segmentation | train | 1 | {SCORE:.1f} |" in text
    params = yaml.safe_load((project.root / "params.yaml").read_text())
    params["fusion"]["base"]["eval"]["bg_offset"] = 1.0
    (project.root / "params.yaml").write_text(yaml.safe_dump(params))
    found = listed(project, "--main", "--products", "cam,seg", "--seeds", "1").splitlines()
    assert [line.split()[1:3] for line in found] == [["to", "run"], ["done", "train_cam.method=sipe"],
                                                      ["done", "train_cam.method=sfc"]]  # fmt: skip


def test_figures_of_other_data_code_or_params_are_left_out(project):
    tables(project, *V)
    edits = {"data": ("1", "123"), "code/a.py": ("1", "2"), "dvc.yaml": ("stage.py ", "./stage.py "),
             "params.yaml": ("w_scale: 0.8", "w_scale: 0.7")}  # fmt: skip
    files = {name: (project.root / name).read_text() for name in edits}
    for name, edit in edits.items():
        (project.root / name).write_text(files[name].replace(*edit, 1))
        assert "to run" in listed(project, *V), name
        if name != "params.yaml":
            (project.root / name).write_text(files[name])
    (project.root / "code" / "a.py").write_text("2")  # tracked and not committed, as is the param
    before = state(project)
    tables(project, *V)
    assert state(project) == before
    assert rows(project)["miou"][0] == pytest.approx(SCORE - 0.1)
    # `evaluate@seg` did not run, and its entry in dvc.lock names the committed code: nobody may take that for V's
    (project.root / "code" / "a.py").write_text("1")
    assert "to run" in listed(project, *V)
    (project.root / "params.yaml").write_text(files["params.yaml"])
    assert "done" in listed(project, *V)


def test_an_experiment_that_fails_says_so_and_is_run_again(project):
    (project.root / "broken").write_text("")
    before = state(project)
    done = tables(project, "--tables", "6", "--seeds", "2", status=1)
    assert "1 of 2 experiments failed; dvc queue logs NAME says why" in done.stderr
    name = done.stderr.split()[-1]
    assert name.startswith("tables-V-seed0-")
    assert "exited with 3" in project.dvc("queue", "logs", name)
    assert set(rows(project)["seed"]) == {1}
    assert state(project) == before
    assert "failed, to run again" in listed(project, *V)
    (project.root / "broken").unlink()
    tables(project, "--tables", "6", "--seeds", "2")
    assert set(rows(project)["seed"]) == {0, 1}
    assert ran(project).count("train sfc 1") == 1


def test_an_experiment_that_a_leaving_worker_took_is_queued_again(project, monkeypatch):
    run_dvc, taken = _queue.run_dvc, []

    def queued_as_a_worker_leaves(*args):
        run_dvc(*args)
        if "--queue" in args and not taken:
            taken.extend(project.root.glob(".dvc/tmp/exps/celery/broker/in/*.celery.msg"))
            for message in taken:
                message.rename(project.root / ".dvc/tmp/exps/celery/broker/processed" / message.name)

    monkeypatch.setattr(_queue, "run_dvc", queued_as_a_worker_leaves)
    monkeypatch.chdir(project.root)
    done = CliRunner().invoke(paper_tables.main, V, catch_exceptions=False)
    assert len(taken) == 1
    assert done.exit_code == 0, done.output
    assert "a worker that was about to leave took what it did not run: once more" in done.output
    assert ran(project) == ["cam sfc 0", "train sfc 0"]


def test_where_all_failed_no_empty_table_is_written(project):
    (project.root / "broken").write_text("")
    done = tables(project, *V, status=1)
    assert "1 of 1 experiments failed; dvc queue logs NAME says why" in done.stderr
    assert not (project.root / "bench").exists()


def test_params_that_no_experiment_could_run_with_are_refused_before_anything_is_queued(project, monkeypatch):
    monkeypatch.chdir(project.root)
    (project.root / "w.pth").touch()
    params = (project.root / "params.yaml").read_text()
    for section, name, value, said in [
        ("train_cam", "lr", -0.1, "params.yaml: param train_cam.lr: input should be greater than 0 (got -0.1)"),
        ("cam", "pcm_iters", 1, "params.yaml, as sipe changes it: cam.pcm_iters: method sipe has no pixel correlation"),
        ("seg", "backbone", "w.pth", "seg.backbone.weights: w.pth would not be in an experiment's copy of the project"),
        (
            "irn",
            "backbone",
            "w.safetensors",
            "irn.backbone.weights: w.safetensors would not be in an experiment's copy",
        ),
    ]:
        spoilt = yaml.safe_load(params)
        spoilt[section][name] = spoilt[section][name] | {"weights": value} if name == "backbone" else value
        (project.root / "params.yaml").write_text(yaml.safe_dump(spoilt))
        done = CliRunner().invoke(paper_tables.main, ["--main", "--products", "cam", "--seeds", "1", "--dry-run"])
        assert done.exit_code == 1
        assert done.output.startswith(f"Error: {said}")
        assert len(done.output.splitlines()) == 1
    assert "No experiment tasks" in project.dvc("queue", "status")


def refused(project, *args):
    with contextlib.chdir(project.root):
        done = CliRunner().invoke(paper_tables.main, args)
    assert done.exit_code == 1
    (line,) = done.output.splitlines()
    return line


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--tables", "4,4"), "--tables: 4 comes twice"),
        (("--main", "--products", "cam,seg,cam"), "--products: cam comes twice"),
        (("--main", "--tables", "4"), "--tables are of the ablations, --main is instead of them; leave one out"),
    ],
)
def test_what_is_asked_twice_or_for_nothing_is_refused(project, args, said):
    assert refused(project, *args, "--dry-run") == f"Error: {said}"


def test_damage_that_a_kill_leaves_is_said_with_its_remedy(project):
    lock, yaml_file = project.root / "dvc.lock", project.root / "dvc.yaml"
    whole = lock.read_bytes()
    for content in (whole[: len(whole) // 2], b'{"stages": 1}'):
        lock.write_bytes(content)
        assert "git checkout dvc.lock" in refused(project, *V, "--dry-run")
    lock.write_bytes(whole)
    (project.root / ".dvc/tmp/rwlock").write_bytes(b"")
    assert "`rm .dvc/tmp/rwlock`" in refused(project, *V)
    (project.root / ".dvc/tmp/rwlock").unlink()
    pipeline = yaml_file.read_bytes()
    yaml_file.write_bytes(b"\xff")
    assert refused(project, *V, "--dry-run").startswith("Error: dvc.yaml: ")
    yaml_file.write_bytes(pipeline)
    for folder, said in ((".git", "no git repository here"), (".dvc", "no DVC project here")):
        (project.root / folder).rename(project.root / "away")
        assert said in refused(project, *V, "--dry-run")
        (project.root / "away").rename(project.root / folder)


def test_files_of_a_project_in_a_folder_of_the_repository_are_found(tmp_path, monkeypatch):
    project = Project(tmp_path)
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside/dvc.lock").write_text("whole")
    project.git("init", "--quiet")
    project.git("add", "--all")
    project.git("-c", "user.name=t", "-c", "user.email=t@example.invalid", "commit", "--quiet", "--message", "state")
    monkeypatch.chdir(tmp_path / "inside")
    assert _queue.at("HEAD", "dvc.lock") == "whole"


def test_a_second_one_at_once_is_refused(project):
    with contextlib.chdir(project.root), at_work("paper_tables"):
        done = tables(project, *V, status=1)
    assert "Error: paper_tables is at work in this folder already" in done.stderr
    assert "to run" in listed(project, *V)


def test_an_interrupt_that_is_swallowed_ends_the_command_all_the_same():
    before = signal.getsignal(signal.SIGTERM)
    with _queue.interruptible():
        with contextlib.suppress(KeyboardInterrupt):  # as code of DVC's may
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(10)
        with pytest.raises(KeyboardInterrupt):
            _queue.states()
    assert signal.getsignal(signal.SIGTERM) is before


def ignore_interrupts():
    """As a script's background job, which inherits that SIGINT is ignored."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@pytest.mark.parametrize("stopped", ["command", "everything"])
@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGKILL])
def test_the_next_start_goes_on(project, by, stopped):
    before = state(project)
    (project.root / "hang").write_text("")
    command = [sys.executable, "-m", "stages.paper_tables", *V]
    said_to = {"stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, cwd=project.root, env=project.env, preexec_fn=ignore_interrupts, **said_to)
    deadline = time.monotonic() + 60
    while not (project.root / "hanging").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert "running" in listed(project, *V)
    os.kill(process.pid, by)
    _, said = process.communicate(timeout=30)
    assert process.returncode != 0
    assert by == signal.SIGKILL or "the queue goes on without this command" in said
    assert state(project) == before
    if stopped == "everything":  # as by a machine that went down: DVC still says that the experiment runs
        assert stop(project)
        assert "failed, to run again" in listed(project, *V)
    (project.root / "hang").unlink()  # after the stop, before which the experiment would go on and end
    tables(project, *V)
    assert ran(project) == ["cam sfc 0", "train sfc 0"]
    assert rows(project)["miou"][0] == pytest.approx(SCORE)
    assert state(project) == before


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGKILL])
def test_stopped_while_it_queues_it_leaves_the_workspace_alone(project, by):
    before = state(project)
    command = [sys.executable, "-m", "stages.paper_tables", "--tables", "4"]
    said_to = {"stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, cwd=project.root, env=project.env, preexec_fn=ignore_interrupts, **said_to)

    def queueing():
        return [p for p in psutil.process_iter(["cmdline", "cwd"])
                if p.info["cwd"] == str(project.root) and "--queue" in (p.info["cmdline"] or ())]  # fmt: skip

    edited = ["grep", "--quiet", "mine", project.root / "params.yaml"]
    while not subprocess.run(edited, stderr=subprocess.DEVNULL, check=False).returncode:  # until DVC puts edits aside
        assert process.poll() is None
    os.kill(process.pid, by)
    _, said = process.communicate(timeout=60)
    assert process.returncode != 0
    assert by == signal.SIGKILL or "interrupted; no experiment runs, and what is queued stays queued" in said
    psutil.wait_procs(queueing(), timeout=60)
    assert state(project) == before
    assert project.git("stash", "list") == ""
    assert project.dvc("queue", "status").count("Queued") in (0, 1)


def test_what_would_not_be_in_a_copy_is_refused_before_anything_is_queued(project):
    data = project.root.parent / "elsewhere"
    data.write_text("1")
    params = (project.root / "params.yaml").read_text()

    def dataset_root(path):
        (project.root / "params.yaml").write_text(params.replace("root: data", f"root: {path}"))

    dataset_root("../elsewhere")
    refused = tables(project, *V, status=1).stderr.strip()
    assert refused.startswith("Error: dataset.root: ../elsewhere would not be in an experiment's copy of the project;")
    assert "dvc add" in refused
    assert "absolute path" in refused
    assert "\n" not in refused
    new = project.root / "code" / "new.py"
    new.write_text("")
    dataset_root(data)
    assert "code/new.py: git does not know it" in tables(project, *V, status=1).stderr
    new.unlink()
    assert "No experiment tasks" in project.dvc("queue", "status")
    tables(project, *V)  # an absolute path is there
    assert rows(project)["miou"][0] == pytest.approx(SCORE)


def test_a_data_set_inside_a_folder_that_dvc_tracks_is_in_a_copy(project):
    folder = project.root / "sets" / "voc"
    folder.mkdir(parents=True)
    (folder / "list").write_text("1")
    params = (project.root / "params.yaml").read_text()
    (project.root / "params.yaml").write_text(params.replace("root: data", "root: sets/voc/list"))
    project.dvc("add", "--quiet", "sets/voc")
    assert "sets/voc/list would not be in" in tables(project, *V, status=1).stderr  # git does not know sets/voc.dvc
    project.git("add", "sets")
    tables(project, *V)
    assert rows(project)["miou"][0] == pytest.approx(SCORE)
