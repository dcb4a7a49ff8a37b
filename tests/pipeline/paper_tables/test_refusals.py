"""What paper_tables refuses, before anything is queued."""

import contextlib

import pytest
import yaml
from click.testing import CliRunner

from stages import paper_tables
from stages._lock import at_work
from tests.pipeline.paper_tables.runs import SCORE, V, listed, refused, rows, tables


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


def test_a_second_one_at_once_is_refused(project):
    with contextlib.chdir(project.root), at_work("paper_tables"):
        done = tables(project, *V, status=1)
    assert "Error: paper_tables is at work in this folder already" in done.stderr
    assert "to run" in listed(project, *V)


def test_what_would_not_be_in_a_copy_is_refused_before_anything_is_queued(project):
    data = project.root.parent / "elsewhere"
    data.write_text("1")
    params = (project.root / "params.yaml").read_text()

    def dataset_root(path):
        (project.root / "params.yaml").write_text(params.replace("root: data", f"root: {path}"))

    dataset_root("../elsewhere")
    said = tables(project, *V, status=1).stderr.strip()
    assert said.startswith("Error: dataset.root: ../elsewhere would not be in an experiment's copy of the project;")
    assert "dvc add" in said
    assert "absolute path" in said
    assert "\n" not in said
    new = project.root / "code" / "new.py"
    new.write_text("")
    dataset_root(data)
    assert "code/new.py: git does not know it" in tables(project, *V, status=1).stderr
    new.unlink()
    assert "No experiment tasks" in project.dvc("queue", "status")
    tables(project, *V)  # an absolute path is there
    assert rows(project)["miou"][0] == pytest.approx(SCORE)
