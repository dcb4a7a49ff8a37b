"""A method of one's own is one file, one line in the registry, its params and a line in dvc.yaml."""

import csv
import json
import shutil

import pytest

from tests.pipeline import tiny, toy
from tests.pipeline.project import ROOT, Project, copy_project


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Project:
    root = tmp_path_factory.mktemp("own_method") / "project"
    project = copy_project(root)
    tiny.write_data(root / tiny.PARAMS["dataset.root"])
    shutil.copy(ROOT / "presets" / "voc12.yaml", root / "params.yaml")
    project.commit()
    project.put(**tiny.PARAMS)
    toy.add(root)
    project.dvc("add", tiny.PARAMS["dataset.root"])
    project.first_run = project.repro()
    project.commit()
    return project


def test_every_stage_runs_with_it(project):
    assert len(project.first_run) == 15
    assert project.repro() == []


def test_its_losses_make_the_curve_and_its_kind_the_figures(project):
    with (project.root / "plots/train_cam.csv").open() as file:
        assert {row["loss"] for row in csv.DictReader(file)} == {"loss", "means", "peaks"}
    found = json.loads((project.root / "metrics/evaluate_cam.json").read_text())["train"]
    assert found["stands_for"] == "peak"
    assert found["peak"]["miou"] > 0
    rates = (project.root / "plots/analyse_rates.csv").read_text()
    assert "peak CAM" in rates


def test_its_params_rerun_the_training_and_those_of_others_do_not(project):
    params = (project.root / "params.yaml").read_text()
    (project.root / "params.yaml").write_text(params.replace("w_gsc: 1.0", "w_gsc: 2.0"))
    assert project.repro() == ["label_stats", "report"]
    (project.root / "params.yaml").write_text(params.replace("sharpness: 2.0", "sharpness: 3.0"))
    status = json.loads(project.dvc("status", "--json", "label_stats"))
    assert [*status] == ["label_stats"]
    assert project.repro("train_cam") == ["label_stats", "train_cam"]
