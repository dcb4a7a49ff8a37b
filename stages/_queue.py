"""DVC's queue of experiments: queueing, workers, and what has been measured."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import dvc.api
import psutil
from dvc.exceptions import DvcException
from dvc.repo import Repo

from sfc.errors import UserError
from stages._stage import say

T = TypeVar("T")
POLL = 2  # seconds between two looks at the queue
QUIET = 5  # looks without a worker after which there is none: it may just be starting
# the workers DVC starts call `dvc`, and stages `python`: those of this environment
ENVIRONMENT = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"}


class _Interrupt:
    """Whether a person wants the command to end: DVC's code may swallow the exception that says so."""

    wanted = False


_interrupt = _Interrupt()


@contextmanager
def interruptible() -> Iterator[None]:
    """Ctrl-C, SIGTERM and SIGHUP raise KeyboardInterrupt, at the latest where this module looks at the queue again.

    A script's background job inherits that SIGINT is ignored; it is taken anew.
    """
    _interrupt.wanted = False
    before = {number: signal.signal(number, _take) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _take(number: int, frame) -> None:
    _interrupt.wanted = True
    raise KeyboardInterrupt


def _end_if_wanted() -> None:
    if _interrupt.wanted:
        raise KeyboardInterrupt


def run_dvc(*args: str) -> None:
    """A dvc command that goes on to its end if this process is interrupted or killed: DVC puts a person's edits aside
    while it queues, and back afterwards.
    """
    with tempfile.TemporaryFile("w+", encoding="utf-8") as said:  # a pipe would break, or wait for the workers' end
        command = [sys.executable, "-m", "dvc", *args]
        process = subprocess.Popen(command, env=ENVIRONMENT, start_new_session=True, stdout=said, stderr=said)
        try:
            process.wait()
        except KeyboardInterrupt:
            process.wait()
            raise
        _end_if_wanted()
        said.seek(0)
        lines = said.read().strip().splitlines() or ["no word of why"]
    if process.returncode:
        errors = [line for line in lines if line.startswith("ERROR")] or lines
        raise UserError(f"dvc {' '.join(args[:3])}: {errors[-1].removeprefix('ERROR: ')}")


def git(*args: str) -> str:
    """What a git command prints; nothing if it fails."""
    return subprocess.run(["git", *args], capture_output=True, text=True, check=False).stdout


def add(name: str, targets: Iterable[str], changes: dict[str, str]) -> None:
    """Queue the workspace as it is with params changed; what failed or is out of date under that name goes first."""
    for _ in range(2):  # of what no worker began the first takes the params, and only the second the failure
        if states().get(name) == "Failed":
            run_dvc("queue", "remove", name)
    head = git("rev-parse", "HEAD").strip()
    if git("for-each-ref", f"refs/exps/{head[:2]}/{head[2:]}/{name}"):
        run_dvc("exp", "remove", name)
    run_dvc("exp", "run", "--queue", "--name", name, *(f"-S{key}={value}" for key, value in changes.items()), *targets)


def states() -> dict[str, str]:
    """Experiment -> Running, Queued, Failed or Success, of all that DVC's queue remembers."""
    found: dict[str, str] = {}
    for entry in _read(lambda queue: queue.status()):  # in this order; a name may occur again
        found.setdefault(entry["name"], entry["status"])
    return found


def work_off(names: list[str], jobs: int) -> list[str]:
    """Start workers and wait until none of these experiments is queued or running; returns those that failed.

    Args:
        jobs: experiments at a time.
    """
    start = ("queue", "start", "--jobs", str(jobs))
    run_dvc(*start)
    quiet, nowhere, shown = 0, 0, None
    while True:
        _end_if_wanted()
        now = states()
        count = Counter(now.get(name, "Success") for name in names)
        if count != shown:
            parts = [f"{count[state]} {state.lower()}" for state in ("Running", "Queued", "Failed") if count[state]]
            say(", ".join([f"{count['Success']} of {len(names)} experiments done", *parts]))
        shown = count
        quiet = 0 if working() else quiet + 1
        # on its way from the queue to a worker an experiment is nowhere for a moment
        nowhere = nowhere + 1 if any(name not in now for name in names) else 0
        if not count["Queued"] + count["Running"] and not 0 < nowhere < QUIET:
            return [name for name in names if now.get(name) == "Failed"]
        if quiet == QUIET:  # they left just before the last was queued, or were killed
            settle()
            run_dvc(*start)
            quiet = 0
        time.sleep(POLL)


def lost(names: Iterable[str]) -> list[str]:
    """Those of the failed experiments that no worker began: one that was about to leave took them with it."""

    def unbegun(queue) -> set[str]:
        return {done.entry.name for done in queue.iter_failed() if queue.proc.get(done.entry.stash_rev) is None}

    found = _read(unbegun)
    return [name for name in names if name in found]


def settle() -> None:
    """Count as failed what a killed worker left: DVC says for ever that it runs, and may be unable to list it."""

    def give_up(queue) -> None:
        def runs(entry) -> bool:
            return _at_work(lambda process: any(entry.stash_rev in word for word in process.info["cmdline"]))

        # the last step of `dvc queue kill`, whose first would signal a process id that may be another's by now
        if lost := {entry: entry.name for entry in queue.iter_active() if not runs(entry)}:
            queue._mark_inactive_tasks_failure(lost)

    if not working():
        _read(give_up)


def working() -> bool:
    """Whether the project has a worker."""
    return _at_work(lambda process: "queue-worker" in process.info["cmdline"] and process.info["cwd"] == os.getcwd())


def _at_work(wanted: Callable[[psutil.Process], bool]) -> bool:
    return any(process.info["cmdline"] and wanted(process) for process in psutil.process_iter(["cmdline", "cwd"]))


def measured() -> list[tuple[str, str]]:
    """(name, commit) of every experiment that ended well, on whatever commit it began."""
    settle()
    refs = git("for-each-ref", "--format=%(refname)", "refs/exps").splitlines()
    bases = {"".join(ref.split("/")[2:4]) for ref in refs if ref.count("/") == 4}
    # of its rows the figures are not read: they mix metric files under one name, and show for a file that several
    # stages depend on the hash of the last one in dvc.yaml, even if that did not run
    rows = _patiently(lambda: dvc.api.exp_show(revs=sorted(bases))) if bases else []
    return [
        (row["Experiment"], row["rev"])
        for row in rows
        if row["Experiment"] and row["State"] in (None, "Success")  # failed and queued ones show their commit's figures
    ]


def at(commit: str, path: str) -> str:
    """A file as an experiment has committed it; empty where there is none."""
    return git("show", f"{commit}:./{path}")  # the project may lie in a folder of the repository


def _read(what: Callable[..., T]) -> T:
    def ask() -> T:
        with Repo() as repo:
            return what(repo.experiments.celery_queue)

    return _patiently(ask)


def _patiently(ask: Callable[[], T]) -> T:
    """Ask DVC again where files vanish while it looks at them, since workers move on meanwhile."""
    for _ in range(10):
        _end_if_wanted()
        try:
            return ask()
        except (DvcException, OSError, ValueError, KeyError) as error:
            last = error
            time.sleep(1)
    raise UserError(f"DVC's queue cannot be read: {' '.join(str(last).split())}") from last
