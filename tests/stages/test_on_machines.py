"""Several machines, as docs/machines.md says it: two agents of torchrun that meet, started by a stand-in for srun."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np

from tests.stages import on_device
from tests.stages.on_device import STAGES, curve, run

ROOT = Path(__file__).resolve().parents[2]
SRUN = """#!/bin/sh
# a process a node, as srun starts them
for node in 0 1; do SLURM_NODEID=$node SLURM_PROCID=$node "$@" & all="$all $!"; done
for one in $all; do wait $one || failed=1; done
exit ${failed:-0}
"""


def test_two_machines_train_as_one(tmp_path, monkeypatch):
    frozen = {"arch": "resnet18", "weights": "none", "frozen_stages": 0, "batch_norm": "frozen"}
    on_device.write_project(tmp_path, **{"train_cam.backbone": frozen})
    monkeypatch.chdir(tmp_path)
    for stage in STAGES[:3]:
        run(stage, device="reference", monkeypatch=monkeypatch)
    expected = curve("train_cam")
    (tmp_path / "plots/train_cam.csv").unlink()

    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "srun").write_text(SRUN)
    (programs / "srun").chmod(0o755)
    (programs / "python").symlink_to(sys.executable)
    (programs / "torchrun").write_text(f'#!/bin/sh\nexec {sys.executable} -m torch.distributed.run "$@"\n')
    (programs / "torchrun").chmod(0o755)
    text = (ROOT / "docs/machines.md").read_text()
    (launch,) = re.findall(r'^export SFC_LAUNCH="(srun .*?)"$', text, re.M | re.S)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    node = {"SLURM_NNODES": "2", "SLURM_GPUS_ON_NODE": "1", "SLURM_JOB_ID": "7", "HOST": "127.0.0.1", "PORT": port}
    path = {"PATH": f"{programs}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    environment = os.environ | node | path
    command = ["bash", "-c", f'export SFC_LAUNCH="{launch}"; ${{SFC_LAUNCH:-python}} -m stages.train_cam']
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("train_cam: method sfc") == 1  # one process speaks for both machines
    found = curve("train_cam")
    assert list(found.index) == list(expected.index)
    np.testing.assert_allclose(found, expected, atol=1e-3, rtol=1e-3)
