"""A committed project whose stages only look at params and a data file, all of them run; a copy for each test."""

import shutil

import pytest
import yaml

from tests.pipeline.paper_tables.runs import PARAMS, PIPELINE, STAGE, stop
from tests.pipeline.project import ROOT, Project


@pytest.fixture(scope="session")
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
