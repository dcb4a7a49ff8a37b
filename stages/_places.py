"""Places that a person names, and whether files can be written there: asked without a trace, before time is spent."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import click

from sfc.errors import UserError
from sfc.storage import storage_line


class GivenPath(click.Path):
    """A path on the command line, of which an empty one would be the present folder."""

    def convert(self, value, param, ctx):
        if not os.fspath(value):
            raise click.ClickException(f"{param.opts[0]}: '' is no path; is a variable of the shell not set?")
        return super().convert(value, param, ctx)


def check_file(path: Path) -> None:
    """Raise UserError if a file cannot be written there."""
    check_parents(path)
    refuse_others(path)
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
        if os.path.lexists(parent):  # asked first: between the two, another thread may make the folder
            if os.path.isdir(parent):
                return
            raise UserError(f"{path}: cannot be written ({parent} is no folder); remove that, or write elsewhere")


def refuse_others(path: Path) -> None:
    """Raise UserError if a folder lies where a file is to be written, a link to one makes way; or a device or pipe."""
    try:
        kind = stat.S_IFMT(path.stat().st_mode)  # asked once: between two questions, another process may delete it
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            raise
        kind = stat.S_IFREG  # nothing there, or a link that leads nowhere, which a file replaces
    if kind == stat.S_IFDIR and not path.is_symlink():
        raise UserError(f"{path}: cannot be written (a folder lies there); remove it, or write elsewhere")
    special = kind not in (stat.S_IFREG, stat.S_IFDIR)
    if special or path.absolute().parent == Path("/dev"):  # /dev/stdout is a link, to a file where it is redirected
        raise UserError(f"{path}: cannot be written (no place for a file, but a device or pipe); write elsewhere")


def _check_rights(folder: Path) -> None:
    """Ask of the folder or, where it is not there yet, the one it will be made in."""
    there = next(place for place in (folder, *folder.absolute().parents) if place.is_dir())
    if not os.access(there, os.W_OK | os.X_OK):
        reason = errno.EROFS if os.statvfs(there).f_flag & os.ST_RDONLY else errno.EACCES
        raise UserError(storage_line(OSError(reason, os.strerror(reason)), folder))
