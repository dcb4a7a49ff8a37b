"""What a disk says that takes no more, as one line: whatever wrapped it on the way."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

_WORDS = {  # what refuses to write -> what a person can do
    errno.ENOSPC: "free some, or move the project to a larger disk",
    errno.EDQUOT: "free some, or ask for a larger quota",
    errno.EFBIG: "raise the limit on a file's size (ulimit -f)",
    errno.EROFS: "the disk is mounted read-only: move the project to one that takes writes",
    errno.EACCES: "give yourself the right to it, or write elsewhere",
    errno.EPERM: "give yourself the right to it, or write elsewhere",
    errno.ENAMETOOLONG: "give it a shorter name",
    errno.EIO: "the disk fails: look at it before anything else",
}
_CODE = re.compile(r"os error (\d+)")  # as safetensors writes it
_FULL = (errno.ENOSPC, errno.EDQUOT)


def storage_error(error: BaseException) -> OSError | None:
    """The error of the file system in an exception or in what led to it, if that is why it was raised.

    torch, safetensors and zipfile raise errors of their own on top of it, or none but their own.
    """
    for part in _chain(error):
        if isinstance(part, OSError) and part.errno in _WORDS:
            return part
        code = _CODE.search(str(part))
        if code and int(code[1]) in _WORDS:
            return OSError(int(code[1]), os.strerror(int(code[1])))
    return None


def storage_line(error: OSError, path: Path | str) -> str:
    """One line: what cannot be written, why, how much space is there, what to do; `error` as of `storage_error`."""
    space = f", {free_space(path)}" if error.errno in _FULL else ""
    return f"{path}: cannot be written ({error.strerror}{space}); {_WORDS[error.errno]}"


def free_space(path: Path | str) -> str:
    """How much space a file's disk has for this user, in words."""
    folder = Path(path)
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    try:
        return f"{shutil.disk_usage(folder).free / 1e6:,.1f} MB are free"
    except OSError:
        return "how much is free cannot be told"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
