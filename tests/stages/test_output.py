"""Standard output, where figures and help go, may refuse them; standard error may be closed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PRINTING = {
    "help of all": ["stages", "--help"],
    "help of one": ["stages.crf", "--help"],
    "presets": ["stages.preset"],
    "preset": ["stages.preset", "voc12", "--force"],
    "label_stats": ["stages.label_stats", "--labels", "labels.csv"],
}


def run(folder, arguments, **streams):
    """A command in a project with params.yaml, its streams buffered, as they are for a person."""
    (folder / "params.yaml").write_text(
        (ROOT / "presets/voc12.yaml").read_text().replace("momentum: 0.9", "momentum: 0.8")
    )
    (folder / "labels.csv").write_text("image_id,split,classes\na,train,cat\n")
    env = {name: value for name, value in os.environ.items() if name not in ("PYTHONUNBUFFERED", "SFC_DEBUG")}
    command = [sys.executable, "-m", *arguments]
    env |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=folder, env=env, text=True, check=False, **streams)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is full")
@pytest.mark.parametrize("name", PRINTING)
def test_a_full_disk_behind_standard_output_is_one_line(tmp_path, name):
    with open("/dev/full", "w") as full:
        done = run(tmp_path, PRINTING[name], stdout=full, stderr=subprocess.PIPE)
    said = "standard output: cannot be written (No space left on device); send it elsewhere"
    assert done.stderr == f"Error: {said}\n"
    assert done.returncode == 1
