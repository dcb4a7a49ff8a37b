"""A disk that takes no more, under every stage: one line with what is not written, and all as it was before."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pipeline.attack_disk import COMMANDS
from tests.pipeline.copies import MADE, copy_of
from tests.pipeline.project import ROOT

SCRIPT = Path(__file__).with_name("attack_disk.py")
OWN_NAMESPACE = ["unshare", "--map-root-user", "--mount"]
WORDS = {
    "limit": "cannot be written (File too large); raise the limit on a file's size",
    "full": "cannot be written (No space left on device: it takes more than the 0.0 MB that are free); free some, or "
    "move the project to a larger disk",
    "read-only": "cannot be written (Read-only file system); the disk is mounted read-only: move the project",
}


def may_mount(tmp_path):
    try:
        done = subprocess.run(
            [*OWN_NAMESPACE, "mount", "-t", "tmpfs", "tmpfs", tmp_path], capture_output=True, check=False
        )
        return done.returncode == 0
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("kind", WORDS)
def test_every_stage_says_so_in_one_line(real, tmp_path, kind):
    if may_mount(tmp_path) == (kind == "limit"):
        pytest.skip("the limit stands in for disks of one's own, where there is no right to mount them")
    project = copy_of(real, tmp_path / "project")
    command = [] if kind == "limit" else OWN_NAMESPACE
    env = {**os.environ, "PYTHONPATH": str(ROOT), "SFC_DEVICE": "cpu", "SFC_WORKERS": "0"}
    done = subprocess.run(
        [*command, sys.executable, SCRIPT, project, kind], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert [tuple(result[:2]) for result in results] == [*MADE, *((name, "") for name in COMMANDS)]
    for stage, key, code, said, as_before, unfinished in results:
        where = f"{stage} {key}: {said}"
        assert code == 1, where
        assert "\n" not in said[said.index("Error: ") :].strip(), where
        assert WORDS[kind] in said.splitlines()[-1], where
        assert "partial" not in said, where
        assert as_before, where
        assert unfinished == [], where
