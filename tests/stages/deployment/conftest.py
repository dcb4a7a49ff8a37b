"""A project with a segmentation model in the working directory, for the commands segment and export."""

import pytest

from tests.stages.predict_project import write_project


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SFC_DEVICE", "cpu")
    monkeypatch.setenv("SFC_WORKERS", "1")
    return tmp_path


@pytest.fixture
def project(folder):
    write_project(folder)
