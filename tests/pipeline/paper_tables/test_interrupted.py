"""paper_tables interrupted and killed, alone and with its workers: the next start goes on."""

import contextlib
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from stages import _queue
from tests.pipeline.paper_tables.runs import SCORE, V, listed, ran, rows, state, stop, tables


def ignore_interrupts():
    """As a script's background job, which inherits that SIGINT is ignored."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def test_an_interrupt_that_is_swallowed_ends_the_command_all_the_same():
    before = signal.getsignal(signal.SIGTERM)
    with _queue.interruptible():
        with contextlib.suppress(KeyboardInterrupt):  # as code of DVC's may
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(10)
        with pytest.raises(KeyboardInterrupt):
            _queue.states()
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("stopped", ["command", "everything"])
@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGKILL])
def test_the_next_start_goes_on(project, by, stopped):
    before = state(project)
    (project.root / "hang").write_text("")
    command = [sys.executable, "-m", "stages.paper_tables", *V]
    said_to = {"stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, cwd=project.root, env=project.env, preexec_fn=ignore_interrupts, **said_to)
    deadline = time.monotonic() + 120
    while not (project.root / "hanging").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert (project.root / "hanging").exists()
    assert "running" in listed(project, *V)
    os.kill(process.pid, by)
    _, said = process.communicate(timeout=120)
    assert process.returncode != 0
    assert by == signal.SIGKILL or "the queue goes on without this command" in said
    assert state(project) == before
    if stopped == "everything":  # as by a machine that went down: DVC still says that the experiment runs
        assert stop(project)
        assert "failed, to run again" in listed(project, *V)
    (project.root / "hang").unlink()  # after the stop, before which the experiment would go on and end
    tables(project, *V)
    assert ran(project) == ["cam sfc 0", "train sfc 0"]
    assert rows(project)["miou"][0] == pytest.approx(SCORE)
    assert state(project) == before


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGKILL])
def test_stopped_while_it_queues_it_leaves_the_workspace_alone(project, by):
    before = state(project)
    command = [sys.executable, "-m", "stages.paper_tables", "--tables", "4"]
    said_to = {"stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, cwd=project.root, env=project.env, preexec_fn=ignore_interrupts, **said_to)

    def queueing():
        return [p for p in psutil.process_iter(["cmdline", "cwd"])
                if p.info["cwd"] == str(project.root) and "--queue" in (p.info["cmdline"] or ())]  # fmt: skip

    edited = ["grep", "--quiet", "mine", project.root / "params.yaml"]
    while not subprocess.run(edited, stderr=subprocess.DEVNULL, check=False).returncode:  # until DVC puts edits aside
        assert process.poll() is None
    os.kill(process.pid, by)
    _, said = process.communicate(timeout=60)
    assert process.returncode != 0
    assert by == signal.SIGKILL or "interrupted; no experiment runs, and what is queued stays queued" in said
    psutil.wait_procs(queueing(), timeout=60)
    assert state(project) == before
    assert project.git("stash", "list") == ""
    assert project.dvc("queue", "status").count("Queued") in (0, 1)
