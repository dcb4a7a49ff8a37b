"""Finding images and masks by name, however the file's extension or accents are written."""

from __future__ import annotations

import unicodedata
from pathlib import Path

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")


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


def composed(name: str) -> str:
    """`name` with each accented letter as one character (Unicode NFC)."""
    return unicodedata.normalize("NFC", name)
