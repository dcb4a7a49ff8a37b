"""The wheel, in an environment that has this package from nowhere else, outside a checkout."""

import ast
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.preset import preset_text

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def call(*command, **options):
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False, timeout=300, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    pytest.importorskip("setuptools")
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"  # building leaves droppings beside what is built
    for name in ("sfc", "stages", "presets"):
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    quiet = ("--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir")
    call(sys.executable, "-m", "pip", "wheel", *quiet, folder, source, cwd=folder)
    (found,) = folder.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """A new environment with the wheel; what it needs, 5 GB, is lent by the environment of the tests.

    A folder named in a .pth file has its own .pth files ignored, so no installation of this project there is seen.
    """
    root = tmp_path_factory.mktemp("environment")
    venv.create(root, symlinks=True)
    python = root / "bin" / "python"
    call(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel)
    site = Path(call(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    lent = dict.fromkeys(sysconfig.get_path(name) for name in ("purelib", "platlib"))
    (site / "lent.pth").write_text("\n".join(lent) + "\n")
    return root / "bin"


@pytest.fixture
def run(installed, tmp_path):
    """Runs a command of that environment in an empty folder."""
    hidden = ("PYTHONPATH", "VIRTUAL_ENV")
    env = {name: value for name, value in os.environ.items() if name not in hidden} | {"SFC_WORKERS": "1"}

    def run(name, *args):
        return call(installed / name, *args, cwd=tmp_path, env=env)

    return run


def test_the_wheel_has_the_code_the_presets_and_the_typed_marker_alone(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    wanted = {str(path.relative_to(ROOT)) for room in ("sfc", "stages") for path in (ROOT / room).rglob("*.py")}
    wanted |= {f"stages/presets/{path.name}" for path in (ROOT / "presets").glob("*.yaml")}
    wanted |= {"sfc/py.typed"}
    assert wanted <= names
    assert {name.split("/")[0] for name in names} == {"sfc", "stages", f"sfc-{PROJECT['version']}.dist-info"}


def test_the_command_is_there_and_is_of_the_wheel(run, installed):
    assert run("sfc", "--version") == f"sfc, version {PROJECT['version']}\n"
    assert "preset" in run("sfc", "--help")
    where = run("python", "-c", "import sfc, stages; print(sfc.__file__, stages.__file__)").split()
    assert all(Path(path).is_relative_to(installed.parent) for path in where)


def test_presets_are_written_outside_a_checkout(run, tmp_path):
    assert len(run("sfc", "preset").splitlines()) == len(list((ROOT / "presets").glob("*.yaml")))
    run("sfc", "preset", "table")
    assert (tmp_path / "params.yaml").read_text() == preset_text(ROOT / "presets/table.yaml")


def test_stages_run_outside_a_checkout(run, tmp_path):
    images = tmp_path / "datasets" / "mine"
    images.mkdir(parents=True)
    rows = ["image,classes,split"]
    for i in range(17):  # a batch and an image to try the model on
        Image.fromarray(np.full((8, 9, 3), 10 * i, np.uint8)).save(images / f"{i}.png")
        rows.append(f"{i}.png,{('cat', 'dog')[i % 2]},{'train' if i < 16 else 'val'}")
    (images / "labels.csv").write_text("\n".join(rows) + "\n")
    run("sfc", "preset", "table")
    run("sfc", "prepare")
    run("python", "-m", "stages.label_stats")
    assert (tmp_path / "out" / "manifest.csv").read_text().count(".png") == 17
    assert (tmp_path / "out" / "method.json").exists()


def test_all_that_is_imported_is_declared():
    """Else an environment that has no more than what this package names would lack it."""
    extras = [name for group, names in PROJECT["optional-dependencies"].items() if group != "test" for name in names]
    declared = {re.split(r"[\[<>=]", name)[0].lower() for name in PROJECT["dependencies"] + extras}
    files = [path for room in ("sfc", "stages") for path in (ROOT / room).rglob("*.py")]
    nodes = [node for path in files for node in ast.walk(ast.parse(path.read_text()))]
    modules = {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}
    modules |= {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    own = {"sfc", "stages", "pydantic_core", *sys.stdlib_module_names}  # pydantic wants one exact version of its core
    owners, packages = packages_distributions(), {module.split(".")[0] for module in modules} - own
    assert {"torch", "click", "timm"} <= packages
    assert [name for name in sorted(packages) if not {n.lower() for n in owners.get(name, [name])} & declared] == []
