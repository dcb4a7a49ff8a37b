"""A copy of this project in a folder of its own, with git and dvc, to change and run."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

from sfc.params import read_yaml

ROOT = Path(__file__).resolve().parents[2]


class Project:
    """A git and dvc project in `root`; commands fail the test unless they end well."""

    def __init__(self, root: Path):
        self.root = root
        self.first_run: list[str] = []
        self.env = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "DVC_NO_ANALYTICS": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "SFC_DEVICE": "cpu",
            "SFC_WORKERS": "1",
            "OMP_NUM_THREADS": "1",
        }
        self.env.pop("SFC_LAUNCH", None)

    def run(self, *command: str) -> str:
        joined = {"text": True, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        done = subprocess.run(command, cwd=self.root, env=self.env, timeout=900, check=False, **joined)
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}"
        return done.stdout

    def git(self, *args: str) -> str:
        return self.run("git", *args)

    def dvc(self, *args: str) -> str:
        return self.run(sys.executable, "-m", "dvc", *args)

    def repro(self, *args: str) -> list[str]:
        """`dvc repro`; returns the stages that ran, in order."""
        return stages_run(self.dvc("repro", *args))

    def put(self, **params) -> None:
        """Set params by dotted name, beside those of the last commit."""
        self.git("checkout", "--quiet", "params.yaml")
        if not params:
            return
        values = self.params()
        for dotted, value in params.items():
            section = values
            *path, last = dotted.split(".")
            for name in path:
                section = section[name]
            section[last] = value
        (self.root / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False))

    def params(self) -> dict:
        return read_yaml((self.root / "params.yaml").read_text(), source="params.yaml")

    def lock(self) -> dict:
        return read_yaml((self.root / "dvc.lock").read_text(), source="dvc.lock")["stages"]

    def commit(self, *args: str) -> None:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", "state", *args)


def stages_run(output: str) -> list[str]:
    return re.findall(r"^Running stage '([^']+)'", output, flags=re.MULTILINE)


def copy_project(root: Path) -> Project:
    """What git tracks or would track here, without the demo data, as a new repository without a commit."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    )  # fmt: skip
    for name in filter(None, listed.stdout.split("\0")):
        wanted = not name.startswith(("store/", "metrics/", "plots/")) and name not in ("data.dvc", "dvc.lock")
        if wanted and (ROOT / name).is_file():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, root / name)
    project = Project(root)
    project.git("init", "--quiet", "--initial-branch=main")
    for key, value in {"user.name": "tests", "user.email": "tests@example.invalid", "commit.gpgsign": "false"}.items():
        project.git("config", key, value)
    return project
