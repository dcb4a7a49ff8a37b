"""Finding images and masks by name, however the file's extension or accents are written."""

from __future__ import annotations

import os
from pathlib import Path

from sfc.data.images import SUFFIXES
from sfc.errors import UserError
from sfc.label_table import composed


class Files:
    """The pictures of a folder by their names without extension.

    A name is found whichever of `SUFFIXES` its file has, in upper or lower case, and however Unicode composes its
    accents (macOS takes them apart, lists seldom do).
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._found: dict[str, list[Path]] = {}
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            if path.suffix.lower() in SUFFIXES:
                self._found.setdefault(composed(path.stem), []).append(path)

    def find(self, stem: str) -> Path | None:
        """The picture of that name, of several the one whose suffix comes first in `SUFFIXES`; None without one."""
        found = self._found.get(composed(stem), [])
        return min(found, key=lambda path: SUFFIXES.index(path.suffix.lower()), default=None)


class Tree:
    """Files below a folder by their paths in it, however upper and lower case and accents are written.

    Spreadsheets change both, and file systems differ in which they tell apart; a path that exists as it is written
    is taken as it is.
    """

    def __init__(self, root: Path):
        self.root = root
        self._names: dict[Path, dict[str, list[str]]] = {}

    def find(self, path: str) -> Path | None:
        """ROOT/path with / between its parts; None if nothing is called so, or several things are."""
        found = self.root
        for part in path.split("/"):
            if not os.path.exists(found / part):  # False, too, for names that no file can have
                alike = self._listing(found).get(composed(part).casefold(), [])
                if len(alike) != 1:
                    return None
                part = alike[0]
            found = found / part
        return found

    def _listing(self, folder: Path) -> dict[str, list[str]]:
        if folder not in self._names:
            names = self._names[folder] = {}
            for child in sorted(folder.iterdir()) if folder.is_dir() else ():
                names.setdefault(composed(child.name).casefold(), []).append(child.name)
        return self._names[folder]


def check_root(root: Path, holds: str) -> None:
    """Raise UserError unless the folder `root` exists; `holds`: what a person knows it by."""
    if not os.path.isdir(root):
        raise UserError(f"dataset.root: no such folder {root}; name the one that has {holds} in it, or run dvc pull")
