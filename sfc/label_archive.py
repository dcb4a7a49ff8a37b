"""Label maps of a whole split in one file: a stored zip of palette PNGs, equal bytes for equal labels."""

from __future__ import annotations

import io
import os
import struct
import zipfile
from pathlib import Path
from typing import IO, Self

import numpy as np
from PIL import Image

from sfc.data.images import palette_png
from sfc.data.manifest import Record
from sfc.errors import UserError

MOST = 1 << 28  # bytes of an entry when it is unpacked; a run-length list of ten thousand masks is far smaller
_END = struct.Struct("<4s6xH10x")  # the record at the end of a zip without a comment: its mark, number of entries
_END_64 = struct.Struct("<4s28xQ16x20x")  # before that one where there are more, with what points to it
_DATE = (1980, 1, 1, 0, 0, 0)  # the zip format's first day: the time of writing must not change the bytes


class LabelArchiveWriter:
    """Writes label maps in the order given; use as a context manager."""

    def __init__(self, path: str | Path):
        self._zip = zipfile.ZipFile(path, "w", zipfile.ZIP_STORED)  # PNG is compressed already

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_) -> None:
        self._zip.close()

    def write(self, id: str, label: np.ndarray) -> None:
        """Add one image's label map, (H, W) uint8: 0 background, i + 1 class i, 255 ignore."""
        if label.dtype != np.uint8 or label.ndim != 2:
            raise ValueError(f"{id}: a label map is (H, W) uint8, not {label.shape} {label.dtype}")
        self.write_png(id, palette_png(label))

    def write_png(self, id: str, png: bytes) -> None:
        """Add one image's label map as `LabelArchive.read_png` gives it."""
        self._zip.writestr(zipfile.ZipInfo(f"{id}.png", _DATE), png)


class ZipReader:
    """Random access to the entries of a zip; may be pickled and used in any number of processes.

    Attributes:
        names: of all entries, in the order of the file.

    Raises:
        UserError: no such file, or not a zip.
    """

    def __init__(self, path: str | Path, *, holds: str, remedy: str):
        """
        Args:
            holds: what the entries are, for errors.
            remedy: what brings the file, for errors.
        """
        self.path = Path(path)
        self._holds = holds
        self._remedy = remedy
        self._zip: zipfile.ZipFile | None = None
        self._pid = 0
        self.names = tuple(self._open().namelist())

    def read(self, name: str) -> bytes:
        """The content of an entry; UserError if it is above `MOST`, else whatever damage makes zipfile raise."""
        archive = self._open()
        size = archive.getinfo(name).file_size  # zipfile unpacks no more than this
        if size > MOST:
            raise UserError(f"{self.path}: {name} would unpack to {size:,} bytes, above {MOST:,}; make the file again")
        return archive.read(name)

    def _open(self) -> zipfile.ZipFile:
        # A forked process shares its parent's file position, so each process opens the file for itself.
        if self._zip is None or self._pid != os.getpid():
            try:
                self._zip = _opened(self.path)
            except FileNotFoundError:
                raise UserError(f"{self.path}: no such file; {self._remedy}") from None
            except Exception:  # a flipped bit can break zipfile anywhere
                raise UserError(f"{self.path}: not a zip archive of {self._holds}; make the file again") from None
            self._pid = os.getpid()
        return self._zip

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_zip": None}


def _opened(path: Path) -> zipfile.ZipFile:
    """An archive whose list of entries is whole: zipfile takes one that lacks some."""
    archive = zipfile.ZipFile(path)
    listed, said = len(archive.namelist()), _said_at_the_end(archive.fp)
    if said is not None and listed != said:
        raise zipfile.BadZipFile(f"{said} entries, but {listed} listed")
    return archive


def _said_at_the_end(file: IO[bytes]) -> int | None:
    """How many entries an open zip says that it has; None where a comment ends the file."""
    size = file.seek(0, os.SEEK_END)
    file.seek(-min(size, _END.size + _END_64.size), os.SEEK_END)
    tail = file.read()
    mark, count = _END.unpack(tail[-_END.size :])
    if mark != b"PK\5\6":
        return None
    if len(tail) == _END.size + _END_64.size:
        mark, many = _END_64.unpack(tail[: _END_64.size])
        count = many if mark == b"PK\6\6" else count
    return count


class LabelArchive:
    """Random access by image id; may be pickled and used in any number of processes.

    Raises:
        UserError: no such file, or not an archive of label maps.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._zip = ZipReader(path, holds="label maps", remedy="run the stage that makes it (dvc repro)")
        self._names = dict.fromkeys(name.removesuffix(".png") for name in self._zip.names)
        if len(self._names) < len(self._zip.names):  # a flipped bit gave one the name of another
            raise UserError(f"{self.path}: an image comes twice; make the file again")

    def __contains__(self, id: str) -> bool:
        return id in self._names

    @property
    def ids(self) -> tuple[str, ...]:
        """Image ids in the order of writing."""
        return tuple(self._names)

    def read(self, id: str) -> np.ndarray:
        """The label map of one image, (H, W) uint8.

        Raises:
            UserError: the archive has no such image, or its entry is damaged.
        """
        png = self.read_png(id)
        try:
            with Image.open(io.BytesIO(png), formats=("PNG",)) as image:
                return np.array(image)
        except MemoryError:
            raise
        except Exception:  # a flipped bit can break Pillow anywhere
            raise self._damaged(id) from None

    def read_png(self, id: str) -> bytes:
        """The PNG file of one image; raises UserError as `read`, but for what is damaged inside the PNG."""
        if id not in self._names:
            raise UserError(f"{self.path}: no label map of image {id}; make it again from the present manifest")
        try:
            return self._zip.read(f"{id}.png")
        except (UserError, MemoryError):
            raise
        except Exception:  # as in `read`, of zipfile
            raise self._damaged(id) from None

    def _damaged(self, id: str) -> UserError:
        return UserError(f"{self.path}: the label map of image {id} is damaged; make the file again")

    def label_of(self, record: Record) -> np.ndarray:
        """As `read`; UserError too if the label map has not the image's size."""
        label = self.read(record.id)
        if label.shape != (record.height, record.width):
            found, wanted = f"{label.shape[0]}x{label.shape[1]}", f"{record.height}x{record.width}"
            raise UserError(f"{self.path}: {record.id} is {found}, its image {wanted}; make the file again")
        return label
