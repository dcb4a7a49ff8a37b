"""Standard output, where figures and help go, may refuse them; standard error may be closed, the folder gone."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.stages import on_device

ROOT = Path(__file__).resolve().parents[2]
PRINTING = {
    "help of all": ["stages", "--help"],
    "help of one": ["stages.crf", "--help"],
    "presets": ["stages.preset"],
    "preset": ["stages.preset", "voc12", "--force"],
    "label_stats": ["stages.label_stats", "--labels", "labels.csv"],
}


def run(folder, arguments, before="", **streams):
    """A command in a project, its streams buffered, as they are for a person.

    Args:
        before: what the shell does before, such as closing a stream.
    """
    env = {name: value for name, value in os.environ.items() if name not in ("PYTHONUNBUFFERED", "SFC_DEBUG")}
    env |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "SFC_WORKERS": "1"}
    command = ["sh", "-c", f'{before} exec "$@"', "sh", sys.executable, "-m", *arguments]
    return subprocess.run(command, cwd=folder, env=env, text=True, check=False, **streams)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is full")
@pytest.mark.parametrize("name", PRINTING)
def test_a_full_disk_behind_standard_output_is_one_line(tmp_path, name):
    (tmp_path / "params.yaml").write_text(
        (ROOT / "presets/voc12.yaml").read_text().replace("momentum: 0.9", "momentum: 0.8")
    )
    (tmp_path / "labels.csv").write_text("image_id,split,classes\na,train,cat\n")
    with open("/dev/full", "w") as full:
        done = run(tmp_path, PRINTING[name], stdout=full, stderr=subprocess.PIPE)
    said = "standard output: cannot be written (No space left on device); send it elsewhere"
    assert done.stderr == f"Error: {said}\n"
    assert done.returncode == 1


@pytest.mark.parametrize("closed", ["2>&-", "0<&- 2>&-", "1>&-", "0<&- 1>&- 2>&-"])
def test_with_streams_closed_a_stage_does_its_work(tmp_path, closed):
    """What it has to say is lost; no file that it opens takes the number of a closed stream, or the words."""
    on_device.write_project(tmp_path)
    done = run(tmp_path, ["stages.prepare"], before=f"exec {closed};")
    assert done.returncode == 0
    assert (tmp_path / "out/manifest.csv").exists()


GONE = "the folder you are in is gone or closed to you (No such file or directory); cd to another"


@pytest.mark.parametrize("name", ["stages", "stages.prepare"])
def test_a_folder_that_is_gone_is_one_line(tmp_path, name):
    (tmp_path / "gone").mkdir()
    before = f"cd gone; rmdir {shlex.quote(str(tmp_path / 'gone'))};"
    done = run(tmp_path, [name], before=before, capture_output=True)
    assert (done.returncode, done.stderr) == (1, f"Error: {GONE}\n")


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_closed_stream_keeps_its_number(tmp_path, number):
    code = "import stages, os; fd = os.open('x', os.O_CREAT | os.O_WRONLY); open('fd', 'w').write(str(fd))"
    command = f"exec {number}>&-; exec {shlex.quote(sys.executable)} -c {shlex.quote(code)}"
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run(command, shell=True, cwd=tmp_path, env=env, check=True)
    assert int((tmp_path / "fd").read_text()) > 2
