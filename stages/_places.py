"""Whether files can be written to a place: asked without a trace, before time is spent on what they will hold."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from sfc.errors import UserError
from sfc.storage import storage_line


def check_file(path: Path) -> None:
    """Raise UserError if a file cannot be written there."""
    check_parents(path)
    refuse_folder(path)
    _check_rights(path.parent)


def check_folder(path: Path) -> None:
    """Raise UserError if files cannot be written to a folder, which need not be there yet."""
    check_parents(path)
    if os.path.lexists(path) and not os.path.isdir(path):
        raise UserError(f"{path}: cannot be a folder (a file lies there); remove it, or write elsewhere")
    _check_rights(path)


def check_parents(path: Path) -> None:
    """Raise UserError if a folder that `path` lies in is a file."""
    for parent in path.parents:
        if os.path.isdir(parent):
            return
        if os.path.lexists(parent):
            raise UserError(f"{path}: cannot be written ({parent} is no folder); remove that, or write elsewhere")


def refuse_folder(path: Path) -> None:
    """Raise UserError if a folder lies where a file is to be written; a link to one makes way."""
    if path.is_dir() and not path.is_symlink():
        raise UserError(f"{path}: cannot be written (a folder lies there); remove it, or write elsewhere")


def _check_rights(folder: Path) -> None:
    """Ask of the folder or, where it is not there yet, the one it will be made in."""
    there = next(place for place in (folder, *folder.absolute().parents) if place.is_dir())
    if not os.access(there, os.W_OK | os.X_OK):
        reason = errno.EROFS if os.statvfs(there).f_flag & os.ST_RDONLY else errno.EACCES
        raise UserError(storage_line(OSError(reason, os.strerror(reason)), folder))
