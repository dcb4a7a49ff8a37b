"""Stages in several processes, and stages that are killed and go on."""

import os
import subprocess
import sys
from pathlib import Path

from click.testing import CliRunner

from sfc import sealed as files

ROOT = Path(__file__).resolve().parents[2]


def launched(module, *arguments, processes):
    """Run a stage in the present folder by torchrun, as SFC_LAUNCH does; returns what it said."""
    launcher = ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command = [sys.executable, "-m", *launcher, "-m", module, *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stderr


def goes_on_after_a_kill(monkeypatch, stage, outputs, *, shards, archives=1):
    """Run `stage` until it has sealed two of its shards, then again: it goes on, and ends with the same bytes."""
    paths = [Path(path) for path in outputs]
    done = CliRunner().invoke(stage.main)
    assert done.exit_code == 0, done.output
    expected = [content(path) for path in paths]
    assert left() == []

    count, replace = iter(range(10**6)), os.replace

    def killed(*args):  # a seal replaces two files
        if next(count) == 2 * 2 * archives:
            raise KeyboardInterrupt
        replace(*args)

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "replace", killed)
        assert CliRunner().invoke(stage.main).exit_code == 1
    damaged = sorted(Path(".scratch").rglob("00000*"))[0]
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"?")
    done = CliRunner().invoke(stage.main)
    assert done.exit_code == 0, done.output
    assert f"{damaged} is damaged, so its images come again" in done.output
    assert f": goes on after 1 of {shards} shards, which are in {damaged.parent}" in done.output
    assert [content(path) for path in paths] == expected
    assert left() == []


def left():
    """What is kept of unfinished work."""
    return [path for path in Path(".scratch").rglob("*") if path.is_file()]


def content(path):
    """Bytes of a file, or of all files of a folder by name."""
    return {p.name: p.read_bytes() for p in path.iterdir()} if path.is_dir() else path.read_bytes()
