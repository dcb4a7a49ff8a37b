"""Files of work that may be cut off at any moment: one counts only with the checksum of its bytes beside it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def sealed(path: Path) -> Iterator[Path]:
    """A temporary sibling to write a file to; when the block ends well, `path` and its checksum are on the disk.

    On an exception nothing is left of it. Several processes may write the same bytes to one path at once.

    Raises:
        OSError: what the disk says.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    sidecar = temporary.with_name(f"{temporary.name}.sha256")
    try:
        yield temporary
        sidecar.write_text(_on_disk(temporary) + "\n", encoding="ascii")
        _on_disk(sidecar)
        os.replace(temporary, path)
        os.replace(sidecar, checksum_path(path))
        _sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)
        sidecar.unlink(missing_ok=True)


def is_whole(path: Path) -> bool:
    """Whether a file has the bytes that `sealed` wrote."""
    try:
        wanted = checksum_path(path).read_text(encoding="ascii").strip()
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == wanted
    except (OSError, UnicodeDecodeError):
        return False


def remove(path: Path) -> None:
    """Take a file and its checksum away, as far as they are there."""
    checksum_path(path).unlink(missing_ok=True)
    path.unlink(missing_ok=True)


def checksum_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _on_disk(path: Path) -> str:
    """Wait until the disk has a file's bytes; returns their checksum."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync_folder(folder: Path) -> None:
    """Wait until the disk has the names in a folder; some file systems cannot be asked."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError:
        pass
    finally:
        os.close(descriptor)
