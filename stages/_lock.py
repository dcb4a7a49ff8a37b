"""One process at work on a stage in a folder; a lock ends with its process, however that ends."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from sfc.errors import UserError

FOLDER = Path(".scratch")
_held: set[str] = set()


@contextmanager
def at_work(stage: str, arguments: Sequence[str] = (), *, target: str | None = None) -> Iterator[None]:
    """Be the only process at work on a stage with these arguments in the present folder.

    Args:
        target: the file or folder that the arguments name, however they spell it; only one process is at work on it.

    Where the folder takes no files or no locks, there is none; writing the results will say what is wrong.

    Raises:
        UserError: another process is, and which one.
    """
    name = "-".join([stage, *map(_part, [os.path.realpath(target)] if target else arguments)])
    path = FOLDER / f"{name}.lock"
    file = _locked(path, " ".join([stage, *arguments]))
    if file is None:
        yield
        return
    _held.add(name)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)  # before the lock ends: afterwards it may be another's
        file.close()
        _held.discard(name)
        with suppress(OSError):
            FOLDER.rmdir()


def _part(text: str) -> str:
    """A part of a file name, of its own for every text."""
    plain = re.sub(r"\W+", "_", text, flags=re.ASCII)[-80:]  # characters of one byte: a name has at most 255
    return plain if plain == text else f"{plain}-{hashlib.sha256(os.fsencode(text)).hexdigest()[:8]}"


def alone() -> bool:
    """Whether this process holds a lock, so that what others left unfinished here is nobody's."""
    return bool(_held)


def _locked(path: Path, what: str) -> IO[str] | None:
    while True:
        try:
            path.parent.mkdir(exist_ok=True)
            file = path.open("a+", encoding="utf-8")
        except FileNotFoundError:
            continue  # one that ended took the folder away meanwhile
        except OSError:
            return None
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            with file:
                file.seek(0)
                holder = file.read().strip() or "another process"
            raise UserError(f"{what} is at work in this folder already: {holder}; wait for it, or end it") from None
        except OSError:  # a file system without locks
            file.close()
            return None
        if _is_same(file, path):
            break
        file.close()  # the one before took its file away between our opening and locking it
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    with suppress(OSError):  # a full disk: the lock holds without a word
        os.ftruncate(file.fileno(), 0)
        os.write(file.fileno(), f"process {os.getpid()} on {os.uname().nodename} since {since}\n".encode())
    return file


def _is_same(file: IO[str], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
