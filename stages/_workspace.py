"""A workspace that experiments run in, and that is afterwards what it was before."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import yaml
from dvc.repo import Repo

from sfc.errors import UserError
from sfc.params import Yaml12Loader
from stages._stage import say

GRACE = 60  # seconds an interrupted dvc gets to end its stage by itself

_OWN = {Path("outs.json"), Path("changes.json"), Path("pid")}  # of the copies, no files of the workspace
DVC = (sys.executable, "-m", "dvc")


class Workspace:
    """Runs `dvc exp run` in the workspace and puts back params.yaml, dvc.lock, metrics/ and what the stages wrote.

    Experiments in a copy (`dvc exp run --temp`) would leave the workspace alone, but there a data folder named
    relative to the project, such as ../voc_sample, does not exist. So they run here: files are copied aside first,
    outputs come back from DVC's cache by the old dvc.lock, and an output that is not in the cache is refused before
    anything runs. The copies stay on disk until all is back: if the process is killed, the next one finishes the job.

    Entering it puts back what a killed run left, before anybody reads params.yaml; only one process can be inside.
    Where that cannot be done without losing something, it says so and keeps the copies.

    Args:
        scratch: folder for the copies.
    """

    def __init__(self, scratch: Path):
        self._scratch, self._copy = scratch, scratch / "before"
        self._params = ""

    def __enter__(self) -> Workspace:
        self._scratch.mkdir(parents=True, exist_ok=True)
        self._lock = (self._scratch / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise UserError(f"{self._lock.name}: another such command is at work here; wait for it") from None
        self._finish_killed()
        return self

    def __exit__(self, *exception) -> None:
        self._lock.close()

    @contextmanager
    def kept(self, targets: Sequence[str]) -> Iterator[None]:
        """Whatever happens inside, also an interruption, the workspace ends as it began.

        Args:
            targets: stages that are going to run, with all stages before them.

        Raises:
            UserError: an output is there that could not be put back.
        """
        with _terminated_as_interrupted():
            self._params = Path("params.yaml").read_text(encoding="utf-8")
            self._save(targets)
            try:
                yield
            finally:
                self._restore()

    def run(self, targets: Sequence[str], changes: dict[str, str]) -> int:
        """Inside `kept`: `dvc exp run` of the workspace's params with these changes; returns dvc's exit status.

        Metrics and outputs are then the run's; params.yaml is back.
        """
        Path("params.yaml").write_text(self._params, encoding="utf-8")
        (self._copy / "changes.json").write_text(json.dumps(changes), encoding="utf-8")
        sets = [f"-S{name}={value}" for name, value in changes.items()]
        # a session of its own: the terminal's Ctrl-C reaches dvc and its stage through us alone
        command = [*DVC, "exp", "run", *targets, *sets]
        process = subprocess.Popen(command, start_new_session=True, preexec_fn=_interruptible)
        (self._copy / "pid").write_text(str(process.pid), encoding="utf-8")
        try:
            status = process.wait()
        finally:
            _end(process)
        Path("params.yaml").write_text(self._params, encoding="utf-8")
        return status

    def _save(self, targets: Sequence[str]) -> None:
        with Repo() as repo:
            chain = {stage for target in targets for stage in repo.stage.collect(target, with_deps=True)}
            outs = [out for stage in chain if stage.cmd for out in stage.outs if out.use_cache]
            there = [out for out in outs if out.exists]
            for out in there:
                if out.workspace_status() or out.changed_cache():
                    raise UserError(
                        f"{out.def_path}: not what dvc.lock and DVC's cache hold, so it could not be put back; "
                        "run dvc repro, or dvc commit, or move it away"
                    )
            names = {"there": [out.def_path for out in there], "all": [out.def_path for out in outs]}
        shutil.rmtree(self._copy, ignore_errors=True)
        partial = self._scratch / "partial"  # the copy counts as made once it has its name
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        for path in _tracked():
            (partial / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, partial / path)
        (partial / "outs.json").write_text(json.dumps({**names, "commit": _commit()}), encoding="utf-8")
        partial.rename(self._copy)

    def _restore(self) -> None:
        kept = {path.relative_to(self._copy) for path in self._copy.rglob("*") if path.is_file()}
        for path in _tracked():
            if path not in kept:
                path.unlink()
        for path in kept - _OWN:
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(self._copy / path, path)
        outs = json.loads((self._copy / "outs.json").read_text(encoding="utf-8"))
        for name in set(outs["all"]) - set(outs["there"]):
            path = Path(name)
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
        if outs["there"]:
            done = subprocess.run([*DVC, "checkout", "--quiet", "--force", *outs["there"]], check=False)
            if done.returncode:
                raise UserError("dvc checkout failed (see above), so out/ is not as before; run dvc checkout --force")
        shutil.rmtree(self._copy)

    def _finish_killed(self) -> None:
        """Put back what a killed run left; UserError if it is still at work, or the workspace was changed since."""
        if not self._copy.exists():
            return
        pid = self._copy / "pid"
        if pid.exists() and _at_work(group := int(pid.read_text(encoding="utf-8"))):
            raise UserError(
                f"an earlier command was killed, but its dvc (process {group}) is still at work here; wait for it, or "
                f"end it by kill -INT -{group}"
            )
        changes = self._copy / "changes.json"
        changes = json.loads(changes.read_text(encoding="utf-8")) if changes.exists() else {}
        before = (self._copy / "params.yaml").read_text(encoding="utf-8")
        now = _values(Path("params.yaml").read_text(encoding="utf-8"))
        commit = json.loads((self._copy / "outs.json").read_text(encoding="utf-8"))["commit"]
        if commit == _commit() and now in (_values(before), applied(_values(before), changes)):
            say("an earlier run was killed: putting the workspace back first")
            self._restore()
        else:
            raise UserError(
                f"an earlier run was killed, and the params or the commit changed since. {self._copy} has the files "
                "as they were before it: copy back what you want of it, delete that folder and start again"
            )


def _commit() -> str:
    return subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()


def _at_work(group: int) -> bool:
    """Whether any process of a process group runs; one that has ended and is not yet collected does not."""
    for process in psutil.process_iter(["status"]):
        with suppress(ProcessLookupError):
            if os.getpgid(process.pid) == group and process.info["status"] != psutil.STATUS_ZOMBIE:
                return True
    return False


def _interruptible() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _end(process: subprocess.Popen) -> None:
    """Interrupt a process group that is still at work; kill it if that does not help, or we are interrupted again."""
    try:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(GRACE)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _tracked() -> list[Path]:
    """The files of the workspace that an experiment changes and git holds."""
    found = [Path("params.yaml"), Path("dvc.lock"), *Path("metrics").rglob("*")]
    return [path for path in found if path.is_file()]


def _values(text: str) -> dict:
    return yaml.load(text, Loader=Yaml12Loader)


def applied(values: dict, changes: dict[str, str]) -> dict:
    """A copy of nested params with `changes` (dotted name -> value as typed) made, as `dvc exp run -S` makes them."""
    values = json.loads(json.dumps(values))
    for name, text in changes.items():
        *path, last = name.split(".")
        section = values
        for part in path:
            section = section[part]
        section[last] = _values(text)
    return values


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """SIGTERM and SIGHUP (a closed terminal) end the block as Ctrl-C does, so that what stands in `finally` is done.

    SIGINT is taken anew as well: what a script starts in the background inherits that it is ignored.
    """

    def interrupt(signum, frame):
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
