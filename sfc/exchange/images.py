"""The images that go out beside their label maps."""

from __future__ import annotations

from pathlib import Path

from sfc.data.images import read_content
from sfc.data.manifest import Record


def copy_image(record: Record, folder: Path) -> str:
    """Copy the image of a record into `folder` as ID.suffix and return that name.

    Raises:
        UserError: the image cannot be read.
        OSError: the copy cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{record.id}{record.image.suffix}"
    (folder / name).write_bytes(read_content(record.image))
    return name
