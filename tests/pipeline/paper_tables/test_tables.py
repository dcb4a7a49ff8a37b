"""The paper's tables by DVC's real queue and workers: what runs, and which figures count."""

import pytest
import yaml

from stages import _queue
from tests.pipeline.paper_tables.runs import SCORE, V, listed, ran, rows, state, tables
from tests.pipeline.project import Project


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


def test_files_of_a_project_in_a_folder_of_the_repository_are_found(tmp_path, monkeypatch):
    project = Project(tmp_path)
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside/dvc.lock").write_text("whole")
    project.git("init", "--quiet")
    project.git("add", "--all")
    project.git("-c", "user.name=t", "-c", "user.email=t@example.invalid", "commit", "--quiet", "--message", "state")
    monkeypatch.chdir(tmp_path / "inside")
    assert _queue.at("HEAD", "dvc.lock") == "whole"


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
