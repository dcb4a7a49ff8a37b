"""Run with a folder and a kind of disk that takes no more: runs every stage and command that writes there.

Prints what each said as JSON.

    attack_disk.py PROJECT limit       no file may grow beyond some hundred bytes
    attack_disk.py PROJECT full        PROJECT is copied to a disk of its own, which is then filled
    attack_disk.py PROJECT read-only   the same, then nothing can be written to it

The last two mount a tmpfs and want `unshare --map-root-user --mount`.
"""

import importlib
import json
import os
import shutil
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

from click.testing import CliRunner

from tests.limits import largest_file
from tests.pipeline.copies import DATA, MADE, arguments, content, made, unfinished

COMMANDS = {  # that write and are no stages
    "calibrate": ["--masks", "2", "--offsets", "0.4"],
    "preset": ["voc12", "--force"],
    "export": ["--format", "pt2", "--scales", "1", "--no-flip"],
    "segment": [f"{DATA}/JPEGImages/t0.jpg", "--out", "segmented"],
    "hand_over": ["--to", "voc"],
    "hand_over zip": ["--to", "voc", "--out", "voc.zip"],
}
SMALL = 300  # bytes that still fit: of a lock, or of a short list of classes


def main(project, kind):
    if kind == "limit":
        os.chdir(project)
    else:
        _own_disk(Path(project))
    if kind == "full":
        _fill()
    if kind == "read-only":
        subprocess.run(["mount", "-o", "remount,ro", os.getcwd()], check=True)
    for stage in MADE:
        before = made(Path(), stage)
        done = _run(stage[0], arguments(stage)[1:], kind)
        _tell(*stage, done, made(Path(), stage) == before)
    for name, given in COMMANDS.items():
        before = content(Path())
        _tell(name, "", _run(name.split()[0], given, kind), content(Path()) == before)


def _run(name, given, kind):
    command = importlib.import_module(f"stages.{name}").main
    with largest_file(SMALL) if kind == "limit" else nullcontext():
        return CliRunner().invoke(command, given)


def _tell(name, key, done, kept):
    print(json.dumps([name, key, done.exit_code, done.output, kept, unfinished(Path())]), flush=True)


def _own_disk(project):
    disk = project.parent / "disk"
    disk.mkdir()
    size = sum(path.stat().st_size + 4096 for path in project.rglob("*")) + (1 << 20)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", disk], check=True)
    shutil.copytree(project, disk, dirs_exist_ok=True)
    os.chdir(disk)


def _fill():
    with open("filling", "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass


if __name__ == "__main__":
    main(*sys.argv[1:])
