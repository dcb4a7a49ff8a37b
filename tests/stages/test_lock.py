"""One process at work on a stage in a folder, and notice by signal: with real processes."""

import os
import signal
from pathlib import Path

import pytest

from stages._lock import alone, at_work
from tests.forked import wait_for

ROOT = Path(__file__).resolve().parents[2]
STAGE = """
import signal, time
from pathlib import Path
from stages._stage import output, stage
from stages._ending import Ended, notice_deferred

if Path("nohup").exists():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)

@stage("Do it.", reads="this", writes="that")
def main() -> str:
    with output("out/x.txt") as path:
        path.write_text("half")
        Path("begun").touch()
        if Path("defer").exists():
            with notice_deferred() as given:
                while not given():
                    time.sleep(0.01)
                Path("noticed").touch()
                while not Path("go").exists():
                    time.sleep(0.01)
        while not Path("go").exists():
            time.sleep(0.01)
        path.write_text("whole")
    return "done"
"""


COMMAND = """
import time
from pathlib import Path

import click

from stages._command import writing_alone
from stages._stage import output

@click.command()
def main():
    with writing_alone("slow", "out/x.txt"), output("out/x.txt") as path:
        path.write_text("half")
        Path("begun").touch()
        while not Path("go").exists():
            time.sleep(0.01)
        path.write_text("whole")
"""


ONCE = """
import click

from stages._command import writing_alone

@click.command()
@click.argument("target")
def main(target):
    with writing_alone("once", target):
        pass
"""


@pytest.fixture
def start(tmp_path, forker):
    """Starts the stage above in a folder."""
    (tmp_path / "params.yaml").write_bytes((ROOT / "presets/voc12.yaml").read_bytes())
    (tmp_path / "slow.py").write_text(STAGE)
    return lambda: forker.start(tmp_path, "slow")


def test_the_second_is_told_who_is_at_work_and_the_first_is_not_disturbed(start, tmp_path):
    first = start()
    wait_for((tmp_path / "begun").exists)
    second = start()
    assert second.wait() == 1
    said = second.said()
    assert said.startswith(f"Error: slow is at work in this folder already: process {first.pid} on {os.uname()[1]} sin")
    assert len(said.splitlines()) == 1
    (tmp_path / "go").touch()
    assert first.wait() == 0
    assert (tmp_path / "out/x.txt").read_text() == "whole"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["x.txt"]
    assert not (tmp_path / ".scratch").exists()


def test_a_killed_one_leaves_no_lock_and_what_it_left_is_cleared_away(start, tmp_path):
    first = start()
    wait_for((tmp_path / "begun").exists)
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert list((tmp_path / "out").iterdir()) != []
    (tmp_path / "go").touch()
    assert start().wait() == 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["x.txt"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_command_that_is_no_stage_leaves_nothing_either(tmp_path, forker, number):
    (tmp_path / "slow.py").write_text(COMMAND)
    first = forker.start(tmp_path, "slow")
    wait_for((tmp_path / "begun").exists)
    second = forker.start(tmp_path, "slow")
    assert second.wait() == 1
    assert second.said().startswith(f"Error: slow out/x.txt is at work in this folder already: process {first.pid} on ")
    first.send_signal(number)
    assert first.wait() == (128 + number if number == signal.SIGTERM else -number)
    assert first.said() == ("slow: ended by SIGTERM\n" if number == signal.SIGTERM else "")
    left = [path.name for path in (tmp_path / "out").iterdir()]
    assert left == ([] if number == signal.SIGTERM else [f".x.txt.{first.pid}.partial.txt"])
    (tmp_path / "go").touch()
    assert forker.start(tmp_path, "slow").wait() == 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["x.txt"]
    assert (tmp_path / "out/x.txt").read_text() == "whole"
    assert not (tmp_path / ".scratch").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_notice_ends_a_stage_and_leaves_nothing_half_done(start, tmp_path, number):
    process = start()
    wait_for((tmp_path / "begun").exists)
    process.send_signal(number)
    assert process.wait() == 128 + number
    said = process.said()
    assert said.startswith(f"slow: ended by {number.name}")
    assert len(said.splitlines()) == 1
    assert list((tmp_path / "out").iterdir()) == []
    assert not (tmp_path / ".scratch").exists()


def test_notice_may_be_deferred_and_comes_more_than_once(start, tmp_path):
    (tmp_path / "defer").touch()
    process = start()
    wait_for((tmp_path / "begun").exists)
    process.send_signal(signal.SIGTERM)
    wait_for((tmp_path / "noticed").exists)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGHUP)
    (tmp_path / "go").touch()
    assert process.wait() == 0
    assert (tmp_path / "out/x.txt").read_text() == "whole"


def test_a_hangup_that_is_ignored_stays_ignored(start, tmp_path):
    (tmp_path / "nohup").touch()
    process = start()
    wait_for((tmp_path / "begun").exists)
    process.send_signal(signal.SIGHUP)
    (tmp_path / "go").touch()
    assert process.wait() == 0


def test_stages_of_other_arguments_do_not_wait_for_one_another(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert not alone()
    with at_work("evaluate", ["cam"]), at_work("evaluate", ["seg"]):
        assert alone()
        assert len(list(Path(".scratch").iterdir())) == 2
    assert not alone()
    assert not Path(".scratch").exists()


def test_a_target_is_one_however_it_is_spelled_and_no_other_ones(tmp_path, monkeypatch, forker):
    monkeypatch.chdir(tmp_path)
    Path("x").mkdir()
    Path("once.py").write_text(ONCE)
    with at_work("once", ["r-1"], target="r-1"):
        forker.run(tmp_path, "once", "r_1")
        with at_work("export_voc", ["大" * 80], target="大" * 80):
            assert len(list(Path(".scratch").iterdir())) == 2
        for spelled in ("r-1", f"{tmp_path}/r-1", "x/../r-1"):
            said = forker.run(tmp_path, "once", spelled, status=1)
            assert said.startswith(f"Error: once {spelled} is at work in this folder already: process {os.getpid()} on")


def test_a_folder_that_takes_no_lock_has_none(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path(".scratch").write_text("no folder")
    with at_work("crf"):
        assert not alone()
