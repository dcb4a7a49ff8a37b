"""Two projects for most tests here: a sketch, whose stages take no time, and a tiny one, whose stages are real."""

import fcntl
import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from tests.pipeline import tiny
from tests.pipeline.project import ROOT, Project, copy_project

STAND_IN = Path(__file__).with_name("stand_in.py")


@pytest.fixture(scope="session")
def sketch(tmp_path_factory) -> Project:
    """The pipeline with a stand-in for every stage; all have run and are committed."""
    root = tmp_path_factory.mktemp("sketch") / "project"
    programs = tmp_path_factory.mktemp("programs")
    (programs / "python").write_text(f'#!/bin/sh\nexec {sys.executable} {STAND_IN} "$@"\n')
    (programs / "python").chmod(0o755)
    project = copy_project(root)
    project.env["PATH"] = f"{programs}{os.pathsep}{project.env['PATH']}"
    shutil.copy(ROOT / "presets" / "voc12.yaml", root / "params.yaml")
    data = root / project.params()["dataset"]["root"]
    data.mkdir(parents=True)
    (data / "image").write_text("pixels")
    project.commit()
    project.first_run = project.repro()
    project.commit()
    return project


@pytest.fixture(scope="session")
def real(tmp_path_factory) -> Project:
    """The pipeline with its real stages on tiny data; all have run and are committed.

    One of pytest's processes makes it; each has a copy of its own, for tests change it.
    """
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    shared, first_run = base / "shared-real", base / "shared-real.json"
    with (base / "shared-real.lock").open("w") as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX)
        if not first_run.exists():
            shutil.rmtree(shared, ignore_errors=True)  # of one that failed
            first_run.write_text(json.dumps(_run_all(shared)))
    project = Project(tmp_path_factory.mktemp("real") / "project")
    shutil.copytree(shared, project.root, symlinks=True)
    project.first_run = json.loads(first_run.read_text())
    return project


def _run_all(root: Path) -> list[str]:
    project = copy_project(root)
    tiny.write_data(root / tiny.PARAMS["dataset.root"])
    shutil.copy(ROOT / "presets" / "voc12.yaml", root / "params.yaml")
    project.commit()
    project.put(**tiny.PARAMS)
    project.dvc("add", tiny.PARAMS["dataset.root"])
    ran = project.repro()
    project.commit()
    return ran
