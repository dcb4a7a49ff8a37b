"""Copies of a project whose stages have all run, and what its stages read and make, as dvc.yaml has it."""

import os
import shutil

import yaml

from tests.pipeline import tiny
from tests.pipeline.project import ROOT

DATA = tiny.PARAMS["dataset.root"]


def _of_stages(*kinds):
    """(stage, its argument or "") -> the paths under these keys of dvc.yaml that are files, but no code."""
    found = {}
    for stage, spec in yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"].items():
        for key, item in spec.get("foreach", {"": {}}).items():
            body = spec.get("do", spec)
            listed = [path for kind in kinds for path in body.get(kind, ())]
            paths = [path if isinstance(path, str) else next(iter(path)) for path in listed]
            filled = [path.replace("${key}", key).replace("${item.product}", item.get("product", "")) for path in paths]
            found[stage, key] = [path for path in filled if not path.startswith(("sfc/", "stages/", "${", "proposals"))]
    return found


MADE = _of_stages("outs", "metrics")
READ = _of_stages("deps")


def arguments(stage):
    """Module and arguments of a stage."""
    return [f"stages.{stage[0]}", *([stage[1]] if stage[1] else [])]


def copy_of(real, folder):
    """All that the stages of `real` read and made, as links to files that must never be written to."""
    for part in ("out", "plots", "metrics", "presets", ".dvc/plots", DATA):
        shutil.copytree(real.root / part, folder / part, copy_function=os.link)
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(real.root / name, folder)
    return folder


def content(path):
    """Bytes of a file or of a folder's files; None where there is nothing."""
    if path.is_dir():
        return {str(p.relative_to(path)): p.read_bytes() for p in sorted(path.rglob("*")) if p.is_file()}
    return path.read_bytes() if path.exists() else None


def made(folder, stage):
    """Content of all that a stage makes."""
    return {path: content(folder / path) for path in MADE[stage]}


def unfinished(folder):
    """Names of what a stage may have while it is at work, and not afterwards."""
    names = [path.name for path in folder.rglob("*")]
    return [name for name in names if "partial" in name or name.endswith((".lock", ".pt"))]
