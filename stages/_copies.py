"""Files that DVC may not see: in an experiment's copy of the project (`dvc exp run --queue`, `--temp`), or at all."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from sfc.errors import UserError

REMEDY = "`dvc add` its folder inside the project (and git add the .dvc file that makes), or write its absolute path"


def copied_project() -> Path | None:
    """The project itself where this process runs in an experiment's copy of it, else None."""
    root = os.environ.get("DVC_ROOT")  # set by DVC, and in a copy, too, the project's own folder
    return Path(root) if root and Path(root).resolve() != Path.cwd().resolve() else None


def reaches_copies(path: str | Path) -> bool:
    """Whether experiments' copies have a file or a whole folder: git or `dvc add` tracks it, or it is absolute."""
    path = Path(path)
    if path.is_absolute():
        return True
    folders = [folder for folder in (path, *path.parents) if folder.name]
    if _listed([folder.with_name(f"{folder.name}.dvc") for folder in folders]):
        return True
    others = ("--others", "--directory", "--no-empty-directory")  # ignored ones, too
    return _listed([path]) and not _listed([path], *others)


def _listed(paths: Sequence[Path], *options: str) -> bool:
    """Whether git lists anything there; it fails for what lies outside the project."""
    try:
        found = subprocess.run(["git", "ls-files", *options, "--", *paths], capture_output=True, check=False)
    except (OSError, ValueError):  # no git here, or a path that none can have: what reads it says so
        return False
    return found.returncode == 0 and bool(found.stdout)


def check_paths(paths: Mapping[str, str | Path | None]) -> None:
    """Say in one line which data an experiment's copy will not have, while the project itself is at work.

    Args:
        paths: param -> its path, or null.

    Raises:
        UserError: this process runs in such a copy, and a path is not there.
    """
    for param, path in paths.items():
        if path is None:
            continue
        if copied_project() is None and not reaches_copies(path):
            click.echo(f"note: {param}: {path} will not be there for queued experiments; {REMEDY}", err=True)
        elif copied_project() is not None and not Path(path).exists():
            raise UserError(f"{param}: {path} is not in this experiment's copy of the project; {REMEDY}")


def note_unwatched(param: str, path: str | None, folder: str) -> None:
    """Say in one line that DVC runs nothing again when data change that lie outside `folder`; null is no data.

    By their names: links may lead to DVC's cache.
    """
    if path is not None and not Path(os.path.abspath(path)).is_relative_to(os.path.abspath(folder)):
        click.echo(
            f"note: {param}: DVC does not see when {path} changes; put it into {folder}, or give it another name with "
            "each change",
            err=True,
        )
