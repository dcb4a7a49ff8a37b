"""Unfinished work: under which fingerprint it is found again, and when it goes."""

import os
import signal
import time
from pathlib import Path

import pytest

from sfc.config_types import Section
from sfc.errors import UserError
from sfc.sealed import sealed
from stages._scratch import DAYS, Scratch, fingerprint, scratch_folder, take_over
from tests.forked import wait_for

OTHER = """
import sys, time
from pathlib import Path
from stages._scratch import Scratch

def main():
    name = sys.argv[1]
    with Scratch("crf", sections=[], inputs=["a"]) as scratch:
        Path(f"begun-{name}").write_text(str(scratch.folder))
        while not Path(f"end-{name}").exists():
            time.sleep(0.01)
"""


class Params(Section):
    weight: float


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    (tmp_path / "a").write_text("1")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "b").write_text("1")
    return tmp_path


def mark(weight=1.0, inputs=("a", "folder", "absent")):
    return fingerprint(sections=[Params(weight=weight)], inputs=inputs)


def test_the_fingerprint_is_of_params_files_and_folders(project):
    before = mark()
    assert mark() == before
    assert mark(weight=2.0) != before
    assert mark(inputs=("a", "folder")) != before
    os.utime(project / "a", (1, 1))
    assert mark() == before
    for path in ("a", "folder/b", "folder/c", "absent"):
        (project / path).write_text("2")
        assert mark() != before
        before = mark()


def files_in(folder, days):
    folder.mkdir(parents=True)
    (folder / "00000.pt").write_text("state")
    for path in (folder / "00000.pt", folder):
        os.utime(path, (time.time() - days * 24 * 3600,) * 2)


def test_what_nobody_has_touched_for_long_is_cleared_away(project, capsys):
    home = project / ".scratch" / "train_cam"
    files_in(home / "old", DAYS + 1)
    files_in(home / "young", DAYS - 1)
    files_in(home / "ours", DAYS + 1)
    files_in(project / ".scratch" / "train_seg" / "old", DAYS + 1)
    assert scratch_folder("train_cam", "ours") == Path(".scratch/train_cam/ours")
    assert sorted(path.name for path in home.iterdir()) == ["ours", "young"]
    assert (
        "train_cam: cleared away unfinished work of other params or code, untouched for 7 days"
        in capsys.readouterr()[1]
    )
    scratch_folder("train_cam", "ours")
    assert capsys.readouterr().err == ""
    assert (project / ".scratch/train_seg/old").exists()


def test_it_lies_beside_the_project_of_a_queued_run(project, monkeypatch):
    monkeypatch.setenv("DVC_ROOT", str(project / "home"))
    assert scratch_folder("crf", "f" * 64) == project / "home" / ".scratch" / "crf" / ("f" * 16)


@pytest.mark.parametrize("place", [".scratch", ".scratch/crf", f".scratch/crf/{'f' * 16}"])
@pytest.mark.parametrize("in_the_way", [lambda path: path.touch(), lambda path: path.symlink_to("purged")])
def test_what_lies_in_its_way_is_named_at_once(project, place, in_the_way):
    (project / place).parent.mkdir(parents=True, exist_ok=True)
    in_the_way(project / place)
    with pytest.raises(UserError, match=rf"^{place}: a file, or a link to nothing, .*; move it away$"):
        scratch_folder("crf", "f" * 64)


def finished(scratch):
    with sealed(scratch.folder / "00000.zip") as path:
        path.write_text("shard")
    return scratch.folder


def test_finished_work_stays_after_a_failure_and_goes_after_the_end(project):
    with pytest.raises(KeyError), Scratch("crf", sections=[], inputs=["a"]) as scratch:
        raise KeyError(finished(scratch))
    with Scratch("crf", sections=[], inputs=["a"]) as scratch:
        assert scratch.left([[scratch.folder / "00000.zip"], [scratch.folder / "00001.zip"]]) == [1]
    assert not (project / ".scratch").exists()


def test_nothing_stays_after_a_failure_that_finished_nothing(project):
    with pytest.raises(KeyError), Scratch("crf", sections=[], inputs=["a"]):
        raise KeyError
    assert not (project / ".scratch").exists()


@pytest.mark.parametrize("killed", [False, True])
def test_the_last_of_several_takes_it_away(project, forker, killed):
    (project / "sharing.py").write_text(OTHER)
    first, second = (forker.start(project, "sharing", name) for name in ("first", "second"))
    begun = [project / f"begun-{name}" for name in ("first", "second")]
    wait_for(lambda: all(path.exists() and path.read_text() for path in begun))
    (folder,) = {project / path.read_text() for path in begun}
    (project / "end-second").touch()
    assert second.wait() == 0, second.said()
    assert folder.exists()
    if killed:
        first.send_signal(signal.SIGKILL)
    else:
        (project / "end-first").touch()
    assert first.wait() == (-signal.SIGKILL if killed else 0), first.said()
    assert folder.exists() == killed


def test_taken_over_without_a_copy_or_with_one(project, monkeypatch):
    take_over(project / "a", project / "linked")
    assert (project / "linked").samefile(project / "a")

    def other_disk(*_):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", other_disk)
    take_over(project / "a", project / "copied")
    assert (project / "copied").read_text() == "1"
    assert not (project / "copied").samefile(project / "a")
