"""What an experiment's copy of the project has."""

import subprocess

import pytest

from sfc.errors import UserError
from stages._copies import check_paths, copied_project, reaches_copies


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A git repository in `project`, with a folder in git, one that `dvc add` tracks, and one of neither."""
    root = tmp_path / "project"
    for folder in ("in_git", "sets/voc/VOC2012", "loose", ".dvc/tmp/exps/one"):
        (root / folder).mkdir(parents=True)
        (root / folder / "image").write_text("")
    (root / "sets" / "voc.dvc").write_text("")
    monkeypatch.chdir(root)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    subprocess.run(["git", "init", "--quiet"], check=True)
    subprocess.run(["git", "add", "in_git", "sets/voc.dvc"], check=True)
    return root


def test_copies_have_what_git_or_dvc_tracks_and_absolute_paths(project):
    assert reaches_copies("in_git")
    assert reaches_copies("sets/voc")
    assert reaches_copies("sets/voc/VOC2012")
    assert reaches_copies(project / "loose")
    assert not reaches_copies("loose")
    assert not reaches_copies("sets")  # git knows a file of it, but not voc's
    assert not reaches_copies("../elsewhere")


@pytest.mark.parametrize("ignored", ["", "*.png"])
def test_a_folder_that_git_tracks_in_part_does_not_reach_copies(project, ignored):
    (project / ".git/info/exclude").write_text(ignored)
    (project / "in_git/empty").mkdir()
    assert reaches_copies("in_git")
    (project / "in_git/more").mkdir()
    (project / "in_git/more/1.png").write_text("")
    assert not reaches_copies("in_git")
    assert reaches_copies("in_git/image")


def test_the_project_says_in_one_line_what_its_copies_will_not_have(project, capsys):
    check_paths({"dataset.root": "sets/voc", "dataset.labels": None})
    assert capsys.readouterr().err == ""
    check_paths({"dataset.root": "loose"})
    said = capsys.readouterr().err
    assert said.startswith("note: dataset.root: loose will not be there for queued experiments; `dvc add` its folder")
    assert said.count("\n") == 1


def test_a_copy_says_in_one_line_what_it_does_not_have(project, monkeypatch):
    monkeypatch.setenv("DVC_ROOT", str(project))
    assert copied_project() is None
    monkeypatch.chdir(project / ".dvc/tmp/exps/one")
    assert copied_project() == project
    check_paths({"dataset.root": "image"})
    with pytest.raises(UserError, match=r"dataset.root: loose is not in this experiment's copy of the project; `dvc"):
        check_paths({"dataset.root": "loose"})
