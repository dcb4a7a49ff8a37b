"""Examples of a product, chosen and drawn by `evaluate` for the report: a stored zip of pictures and what they show."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any, Self

from sfc.errors import UserError

INDEX = "index.json"
_DATE = (1980, 1, 1, 0, 0, 0)  # the zip format's first day: the time of writing must not change the bytes


class ExampleArchiveWriter:
    """Writes pictures in the order given and then the index; use as a context manager."""

    def __init__(self, path: str | Path):
        self._zip = zipfile.ZipFile(path, "w", zipfile.ZIP_STORED)  # JPEG and PNG are compressed already

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_) -> None:
        self._zip.close()

    def write(self, name: str, content: bytes) -> None:
        """Add one picture, a whole JPEG or PNG file."""
        self._zip.writestr(zipfile.ZipInfo(name, _DATE), content)

    def finish(self, index: dict[str, Any]) -> None:
        """Add what the pictures show, see `sfc.evaluation.examples.write_examples`."""
        self.write(INDEX, json.dumps(index, sort_keys=True, ensure_ascii=False).encode())


class ExampleArchive:
    """What `ExampleArchiveWriter` wrote.

    Attributes:
        index: what was given to `finish`.

    Raises:
        UserError: not such an archive.
    """

    def __init__(self, content: bytes, *, source: str):
        """`content` is the whole file, which need not be on disk; `source` names it in errors."""
        self.source = source
        try:
            self._zip = zipfile.ZipFile(io.BytesIO(content))
            self.index: dict[str, Any] = json.loads(self._zip.read(INDEX))
        except Exception:  # a flipped bit can break zipfile anywhere
            raise UserError(f"{source}: not an archive of examples; run the stage evaluate again") from None

    def read(self, name: str) -> bytes:
        """One picture, a whole JPEG or PNG file; raises UserError if it is missing or damaged."""
        try:
            return self._zip.read(name)
        except MemoryError:
            raise
        except Exception:  # as there
            raise UserError(f"{self.source}: {name} is missing or damaged; run the stage evaluate again") from None
