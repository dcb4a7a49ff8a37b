"""Unfinished work, kept under the fingerprint of a stage's params, inputs and code, so that a new start goes on."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

from pydantic import BaseModel

from sfc.errors import UserError
from sfc.sealed import is_whole
from sfc.training import distributed
from stages._stage import say, writing

LOCK = "in_use.lock"
DAYS = 7  # what was not touched for so long is cleared away when a stage of that name starts


def fingerprint(*, sections: Sequence[BaseModel], inputs: Sequence[str]) -> str:
    """A digest of all that decides a stage's result: params, input files and folders, code."""
    digest = hashlib.sha256()
    for section in sections:
        digest.update(json.dumps(section.model_dump(), sort_keys=True).encode())
    for path in map(Path, inputs):
        digest.update(str(path).encode())
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            digest.update(_content(file) if file.is_file() else b"-")
    ours = [module for name, module in sys.modules.items() if name.startswith(("sfc.", "stages.", "__main__"))]
    for path in sorted({module.__file__ for module in ours if getattr(module, "__file__", None)}):
        digest.update(Path(path).read_bytes())
    return digest.hexdigest()


def _content(path: Path) -> bytes:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def scratch_folder(stage: str, fingerprint: str) -> Path:
    """Where the unfinished work of a stage's run is; it need not be there.

    It lies beside the project (DVC_ROOT, so that a queued run finds it again) and is no DVC output. Those of other
    fingerprints that nobody has touched for `DAYS` are cleared away.

    Raises:
        UserError: something else is where it belongs.
    """
    home = Path(os.environ.get("DVC_ROOT", ".")) / ".scratch" / stage
    folder = home / fingerprint[:16]
    for place in (home.parent, home, folder):
        if (place.is_symlink() and not place.exists()) or place.is_file():
            raise UserError(f"{place}: a file, or a link to nothing, where unfinished work belongs; move it away")
    others = [path for path in home.glob("*/") if path != folder]
    old = [other for other in others if time.time() - _touched(other) > DAYS * 24 * 3600]
    for other in old:
        shutil.rmtree(other, ignore_errors=True)
    if old:
        say(f"{stage}: cleared away unfinished work of other params or code, untouched for {DAYS} days, in {home}")
    return folder


def _touched(folder: Path) -> float:
    """When something was last written in a folder."""
    try:
        return max(path.stat().st_mtime for path in (folder, *folder.iterdir()))
    except FileNotFoundError:  # another process is at work in it
        return time.time()


class Scratch:
    """The finished shards of a stage's run, from all its processes; use as a context manager.

    When the block ends well they have been used and are taken away. Several experiments may share the folder; the last
    of them to end takes it away.

    Args:
        sections, inputs: see `fingerprint`.

    Attributes:
        folder: for the shards, written by `sealed`.
    """

    def __init__(self, stage: str, *, sections: Sequence[BaseModel], inputs: Sequence[str]):
        self._stage = stage
        mark = fingerprint(sections=sections, inputs=inputs) if distributed.is_main() else None
        self.folder = scratch_folder(stage, distributed.from_main(mark))
        with writing(self.folder):
            while not self._entered():
                pass

    def left(self, shards: Sequence[Sequence[Path]]) -> list[int]:
        """Numbers of the shards whose files are not all there and whole; what is damaged is named."""
        if not distributed.is_main():
            return distributed.from_main([])
        left = []
        for number, files in enumerate(shards):
            bad = [file for file in files if not is_whole(file)]
            for file in (file for file in bad if file.exists()):
                say(f"{self._stage}: {file} is damaged, so its images come again")
            left += [number] if bad else []
        if len(left) < len(shards):
            done = len(shards) - len(left)
            say(f"{self._stage}: goes on after {done} of {len(shards)} shards, which are in {self.folder}")
        return distributed.from_main(left)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, failed: type[BaseException] | None, *_) -> None:
        if failed is None:
            if not distributed.is_main():
                self._in_use.close()
            distributed.barrier()
        kept = failed is not None and any(path.name != LOCK for path in self.folder.iterdir())
        if distributed.is_main() and not kept and self._lock(fcntl.LOCK_EX | fcntl.LOCK_NB):
            shutil.rmtree(self.folder, ignore_errors=True)
            for parent in (self.folder.parent, self.folder.parent.parent):
                with suppress(OSError):  # holds more
                    parent.rmdir()
        self._in_use.close()

    def _entered(self) -> bool:
        """Lock the folder, with others, against being taken away; False where that happened just before."""
        path = self.folder / LOCK
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self._in_use = path.open("a+", encoding="utf-8")
            self._lock(fcntl.LOCK_SH)
            return os.path.samestat(os.fstat(self._in_use.fileno()), path.stat())
        except FileNotFoundError:
            return False

    def _lock(self, kind: int) -> bool:
        try:
            fcntl.lockf(self._in_use, kind)  # not flock: worker processes would inherit it
        except OSError:  # taken, or a file system without locks
            return False
        return True


def take_over(file: Path, path: Path) -> None:
    """A finished file into an output without a copy, where one disk holds both."""
    try:
        os.link(file, path)
    except OSError:
        shutil.copyfile(file, path)
