"""DVC's books after a kill: what is damaged is said with its remedy, and the remedy helps."""

import subprocess
import sys

import pytest
from click.testing import CliRunner

from stages import dvc_files
from stages.dvc_files import main

LOCK = "schema: '2.0'\nstages:\n  prepare:\n    cmd: python -m stages.prepare\n    deps:\n    - path: data\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".dvc/tmp").mkdir(parents=True)
    return tmp_path


def run():
    return CliRunner().invoke(main)


@pytest.mark.parametrize("content", [None, b"{}", b'{"dvc.yaml": {"read": []}}'])
def test_whole_books_need_no_word(folder, content):
    if content is not None:
        (folder / "dvc.lock").write_text(LOCK)
        (folder / ".dvc/tmp/rwlock").write_bytes(content)
    done = run()
    assert (done.exit_code, done.output) == (0, "")


def test_where_no_project_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = run()
    assert done.exit_code == 1
    assert done.output == "Error: no DVC project here: run it in the folder of a clone, where dvc.yaml and .dvc are\n"


def test_a_lock_that_dvc_is_writing_is_not_damaged(folder, monkeypatch):
    (folder / ".dvc/tmp/rwlock").write_bytes(b"")
    monkeypatch.setattr(dvc_files.time, "sleep", lambda _: (folder / ".dvc/tmp/rwlock").write_bytes(b"{}"))
    assert run().exit_code == 0


@pytest.mark.parametrize("content", [b"", LOCK.encode()[:30], LOCK.encode()[:-7], b"\0" * 99, b"schema: [", b"\xff"])
def test_a_damaged_lock(folder, content):
    (folder / "dvc.lock").write_bytes(content)
    done = run()
    assert done.exit_code == 1
    (line,) = done.output.splitlines()
    assert line.startswith("Error: dvc.lock is damaged")
    assert "`git checkout dvc.lock`" in line


@pytest.mark.parametrize("content", [b"", b'{"a', b"[]", b"\0\0"])
def test_a_damaged_rwlock(folder, content):
    (folder / "dvc.lock").write_bytes(b"")
    (folder / ".dvc/tmp/rwlock").write_bytes(content)
    done = run()
    assert done.exit_code == 1
    first, second = done.output.splitlines()
    assert first.startswith("Error: dvc.lock is damaged")
    assert second.startswith(".dvc/tmp/rwlock is damaged")
    assert "`rm .dvc/tmp/rwlock`" in second


@pytest.mark.parametrize("file", ["dvc.lock", ".dvc/tmp/rwlock"])
def test_dvc_refuses_what_this_finds_and_takes_the_remedy(sketch, file):
    """If DVC mended these files itself one day, neither the command nor its remedies would be needed."""
    sketch.put()
    sketch.repro()
    sketch.commit("--allow-empty")  # tests before this one may have run it with other params
    dvc = [sys.executable, "-m", "dvc", "repro", "--dry", "prepare"]
    path = sketch.root / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    refused = subprocess.run(dvc, cwd=sketch.root, env=sketch.env, capture_output=True, text=True, check=False)
    assert refused.returncode != 0
    assert file.rpartition("/")[2] in refused.stdout + refused.stderr
    if file == "dvc.lock":
        sketch.git("checkout", "dvc.lock")
    else:
        path.unlink()
    assert sketch.repro() == []
