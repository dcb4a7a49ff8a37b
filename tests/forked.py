"""Processes that start in no time, to be killed: forks of one that has the libraries loaded."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SECONDS = 120  # after which a process counts as hanging


class Forker:
    """Forks a process for each stage that is started; use as a context manager."""

    def __init__(self):
        env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "SFC_DEVICE": "cpu"}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self._server = subprocess.Popen([sys.executable, __file__], env=env, **pipes)
        self._started = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self._server.poll() is None:
            for process in self._started:
                process.send_signal(signal.SIGKILL)
        self._server.stdin.close()
        self._server.wait(SECONDS)

    def start(self, folder, module, *arguments, **environment):
        """`python -m MODULE ARGUMENTS` in a folder; MODULE has a click command `main`."""
        said = Path(folder) / f"said-{len(self._started)}.txt"
        words = {"folder": str(folder), "module": module, "arguments": arguments, "env": environment, "said": str(said)}
        self._started.append(Forked(self, self.ask(words), said))
        return self._started[-1]

    def run(self, folder, module, *arguments, status=0, **environment):
        """As `start`, to its end; returns what it said."""
        process = self.start(folder, module, *arguments, **environment)
        assert process.wait() == status, process.said()
        return process.said()

    def ask(self, words):
        assert self._server.poll() is None, f"the process that forks has ended with {self._server.returncode}"
        self._server.stdin.write(json.dumps(words) + "\n")
        self._server.stdin.flush()
        return json.loads(self._server.stdout.readline())


class Forked:
    """One such process, the first of a session of its own."""

    def __init__(self, forker, pid, said):
        self._forker, self.pid, self._said = forker, pid, said
        self._status = None

    def poll(self):
        """Its exit status, negative for a signal; None while it runs."""
        if self._status is None:
            self._status = self._forker.ask({"poll": self.pid})
        return self._status

    def wait(self):
        deadline = time.monotonic() + SECONDS
        while self.poll() is None:
            assert time.monotonic() < deadline, f"hangs: {self.said()}"
            time.sleep(0.01)
        return self._status

    def send_signal(self, number):
        if self.poll() is None:
            os.kill(self.pid, number)

    def said(self):
        """What it wrote, stderr and stdout, so far."""
        return self._said.read_text(errors="replace") if self._said.exists() else ""


def wait_for(condition):
    """Until `condition()` is true, and at most `SECONDS`."""
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def _serve():
    import importlib

    for module in (ROOT / "stages").glob("[a-z]*.py"):
        if module.stem not in ("paper_tables", "report"):  # DVC is large, and starts threads
            importlib.import_module(f"stages.{module.stem}")
    for line in sys.stdin:
        words = json.loads(line)
        if "poll" in words:
            pid, status = os.waitpid(words["poll"], os.WNOHANG)
            print(json.dumps(os.waitstatus_to_exitcode(status) if pid else None), flush=True)
            continue
        pid = os.fork()
        if not pid:
            return _become(importlib, **words)
        print(pid, flush=True)
    return None


def _become(importlib, folder, module, arguments, env, said):
    os.setsid()
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup passes on that it is ignored
    os.chdir(folder)
    os.environ.update(env)
    out, nothing = os.open(said, os.O_CREAT | os.O_WRONLY | os.O_APPEND), os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (out, 1), (out, 2)):
        os.dup2(source, target)
    sys.path.insert(0, folder)
    sys.argv = [module, *arguments]
    return importlib.import_module(module).main


if __name__ == "__main__":
    command = _serve()
    if command:
        command()
