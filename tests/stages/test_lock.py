"""One process at work on a stage in a folder, and notice by signal: with real processes."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from stages._lock import alone, at_work

ROOT = Path(__file__).resolve().parents[2]
STAGE = """
import os, sys, time
from pathlib import Path
from stages._stage import output, stage
from stages._ending import Ended, notice_deferred

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
        path.write_text("whole")
    return "done"

main()
"""


@pytest.fixture
def start(tmp_path):
    """Starts the stage above in a folder; what still runs is killed at the end."""
    (tmp_path / "params.yaml").write_bytes((ROOT / "presets/voc12.yaml").read_bytes())
    (tmp_path / "slow.py").write_text(textwrap.dedent(STAGE))
    started = []

    def start(**options):
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        pipes = {"stderr": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        process = subprocess.Popen([sys.executable, "slow.py"], cwd=tmp_path, env=env, **pipes, **options)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def wait_for(path):
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_second_is_told_who_is_at_work_and_the_first_is_not_disturbed(start, tmp_path):
    first = start()
    wait_for(tmp_path / "begun")
    second = start()
    _, said = second.communicate(timeout=60)
    assert second.returncode == 1
    assert said.startswith(f"Error: slow is at work in this folder already: process {first.pid} on {os.uname()[1]} sin")
    assert len(said.splitlines()) == 1
    (tmp_path / "go").touch()
    assert first.wait(60) == 0
    assert (tmp_path / "out/x.txt").read_text() == "whole"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["x.txt"]
    assert not (tmp_path / ".scratch").exists()


def test_a_killed_one_leaves_no_lock_and_what_it_left_is_cleared_away(start, tmp_path):
    first = start()
    wait_for(tmp_path / "begun")
    first.kill()
    first.wait()
    assert list((tmp_path / "out").iterdir()) != []
    (tmp_path / "go").touch()
    assert start().wait(60) == 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["x.txt"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_notice_ends_a_stage_and_leaves_nothing_half_done(start, tmp_path, number):
    process = start()
    wait_for(tmp_path / "begun")
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert said.startswith(f"slow: ended by {number.name}")
    assert len(said.splitlines()) == 1
    assert list((tmp_path / "out").iterdir()) == []
    assert not (tmp_path / ".scratch").exists()


def test_the_first_notice_may_be_deferred_and_not_the_second(start, tmp_path):
    (tmp_path / "defer").touch()
    process = start()
    wait_for(tmp_path / "begun")
    process.terminate()
    wait_for(tmp_path / "noticed")
    assert process.poll() is None
    process.terminate()
    assert process.wait(60) == 128 + signal.SIGTERM


def test_a_hangup_that_is_ignored_stays_ignored(start, tmp_path):
    process = start(preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))  # as under nohup
    wait_for(tmp_path / "begun")
    process.send_signal(signal.SIGHUP)
    (tmp_path / "go").touch()
    assert process.wait(60) == 0


def test_stages_of_other_arguments_do_not_wait_for_one_another(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert not alone()
    with at_work("evaluate", ["cam"]), at_work("evaluate", ["seg"]):
        assert alone()
        assert len(list(Path(".scratch").iterdir())) == 2
    assert not alone()
    assert not Path(".scratch").exists()


def test_a_folder_that_takes_no_lock_has_none(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path(".scratch").write_text("no folder")
    with at_work("crf"):
        assert not alone()
