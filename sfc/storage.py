"""What a disk says that takes no more, as one line: whatever wrapped it on the way."""

from __future__ import annotations

import errno
import os
import re
import ssl
from collections.abc import Iterator
from pathlib import Path

_WORDS = {  # what refuses to write -> what a person can do
    errno.ENOSPC: "free some, or {move} to a larger disk",
    errno.EDQUOT: "free some, or ask for a larger quota",
    errno.EFBIG: "raise the limit on a file's size (ulimit -f)",
    errno.EROFS: "the disk is mounted read-only: {move} to one that takes writes",
    errno.EACCES: "give yourself the right to it, or write elsewhere",
    errno.EPERM: "give yourself the right to it, or write elsewhere",
    errno.ENAMETOOLONG: "give it a shorter name",
    errno.EIO: "the disk fails: look at it before anything else",
}
_CODE = re.compile(r"os error (\d+)")  # as safetensors writes it
_FEW = 100_000  # files that still fit: fewer may be what is lacking


def storage_error(error: BaseException) -> OSError | None:
    """The error of the file system in an exception or in what led to it, if that is why it was raised.

    torch, safetensors and zipfile raise errors of their own on top of it, or none but their own.
    """
    for part in _chain(error):
        if isinstance(part, ssl.SSLError):  # an OSError with numbers of its own
            continue
        if isinstance(part, OSError) and part.errno in _WORDS:
            return part
        code = _CODE.search(str(part))
        if code and int(code[1]) in _WORDS:
            return OSError(int(code[1]), os.strerror(int(code[1])))
    return None


def storage_line(error: OSError, path: Path | str) -> str:
    """One line: what cannot be written, why, how much space is there, what to do; `error` as of `storage_error`."""
    folder = _nearest(path)
    space = ""
    if error.errno == errno.ENOSPC:
        space = f": it takes more than the {_free(folder)}"
    elif error.errno == errno.EDQUOT:
        space = f", on a disk with {_free(folder)}"
    move = "move the project" if _in_project(folder) else "write"
    return f"{path}: cannot be written ({error.strerror}{space}); {_WORDS[error.errno].format(move=move)}"


def _nearest(path: Path | str) -> Path:
    """The folder that a file is in, or will be made in."""
    folder = Path(path)
    while not os.path.isdir(folder) and folder != folder.parent:  # Path.is_dir raises for names that are too long
        folder = folder.parent
    return folder


def _free(folder: Path) -> str:
    """What a disk has for this user once unfinished files are taken away again, in words."""
    try:
        disk = os.statvfs(folder)
    except OSError:
        return "space that is free, and cannot be told"
    files = f", or {disk.f_favail:,} files," if disk.f_files and disk.f_favail < _FEW else ""
    return f"{disk.f_bavail * disk.f_frsize / 1e6:,.1f} MB{files} that are free"


def _in_project(folder: Path) -> bool:
    """Whether a folder goes along when the project, which is the present folder, is moved to another disk."""
    try:
        here, folder = Path.cwd().resolve(), folder.resolve()
        return folder.is_relative_to(here) and folder.stat().st_dev == here.stat().st_dev
    except OSError:  # the present folder is gone
        return False


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
