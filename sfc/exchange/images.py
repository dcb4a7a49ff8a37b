"""The images that go out beside their label maps."""

from __future__ import annotations

import shutil
from pathlib import Path

from sfc.data.manifest import Record
from sfc.errors import UserError


def copy_image(record: Record, folder: Path) -> str:
    """Copy the image of a record into `folder` as ID.suffix and return that name; UserError if it cannot be read."""
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{record.id}{record.image.suffix}"
    try:
        shutil.copyfile(record.image, folder / name)
    except OSError as error:
        raise UserError(f"{record.image}: cannot be copied ({error.strerror})") from None
    return name
