"""The folder that `segment` fills: pictures of each image, and a table that knows of every one at any moment."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from pathlib import Path
from threading import Lock
from typing import Self

import numpy as np
from PIL import Image

from sfc.data.images import palette_png, read_record
from sfc.data.manifest import Record
from sfc.deployment.overlay import heat_overlay, label_overlay
from sfc.deployment.results import (
    FOLDERS,
    HEAT_MAPS,
    TABLE,
    Row,
    check_images,
    heading,
    heat_map_path,
    label_path,
    overlay_path,
    read_rows,
    row_of,
    table_bytes,
    table_rows,
)
from sfc.errors import UserError
from sfc.model_file import ModelFacts
from stages._places import check_file, check_folder
from stages._stage import output, writing

_UNFINISHED = re.compile(r"\..*\.(\d+)\.partial(\.\w+)?", re.DOTALL)  # as `output` calls it

_JPEG_SIDE = 65_500  # pixels: libjpeg takes no more


class ImageError(UserError):
    """What keeps the results of one image from being written, and of no other."""


class Results:
    """Results of one run; use as a context manager. What is there already stays, or is replaced image by image.

    The table is there before the first picture, so that nobody takes results for photographs; a row is added with each
    image that is done. When the block ends, well or not, rows stand in the order of the sources.

    Args:
        folder: made when the block begins; until then nothing is written.
        images: id -> file, of all images that are meant.
        facts: of the model.

    Raises:
        UserError: nothing can be written there, or what is there is none of these images' results.
    """

    def __init__(self, folder: Path, images: Mapping[str, Path], facts: ModelFacts):
        self._folder, self._images, self._facts = folder, images, facts
        check_folder(folder)
        check_file(folder / TABLE)
        for name in FOLDERS:
            check_folder(folder / name)
        self._kept()
        self._done: dict[str, Row] = {}
        self._lock = Lock()

    def __enter__(self) -> Self:
        kept = self._kept()  # reading the images took its time: another run may have added some
        self._clear_away()
        self._write_table(kept)
        return self

    def __exit__(self, failed: type[BaseException] | None, *_) -> None:
        with suppress(UserError) if failed else nullcontext():  # a full disk has said so already
            there = read_rows(self._folder, self._facts.classes)  # another run may have added some
            self._write_table(there | self._done)

    def _kept(self) -> dict[str, Row]:
        rows = read_rows(self._folder, self._facts.classes)
        check_images(self._folder, self._images, rows)
        return rows

    @property
    def done(self) -> int:
        """How many images this run has done."""
        return len(self._done)

    def write(self, record: Record, label: np.ndarray, heat: np.ndarray | None) -> None:
        """Write the pictures of one image and its row; safe in several threads.

        Args:
            label: (H, W) uint8.
            heat: (C', H, W) float32 in 0..1, of each of the record's classes; None: there are none.

        Raises:
            ImageError: the image cannot be read any more, or its results have names that are too long.
            UserError: the disk does not take them.
        """
        try:
            image = read_record(record)
        except UserError as error:
            raise ImageError(str(error)) from None
        try:
            self._write_pictures(record, image, label, heat)
        except UserError as error:
            if isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.ENAMETOOLONG:
                raise ImageError(str(error)) from None
            raise
        row = row_of(record.id, record.image, label, self._facts.classes)
        with self._lock, writing(self._folder / TABLE):
            with open(self._folder / TABLE, "ab") as file:
                file.write(table_bytes([row]))
            self._done[label_path(record.id)] = row

    def _write_pictures(self, record: Record, image: np.ndarray, label: np.ndarray, heat: np.ndarray | None) -> None:
        classes, palette = self._facts.classes, self._facts.palette
        with output(self._folder / label_path(record.id), clear=False) as path:
            path.write_bytes(palette_png(label, palette=palette))
        with output(self._folder / overlay_path(record.id), clear=False) as path:
            _save(label_overlay(image, label, classes, palette), path)
        shown = () if heat is None else [classes[index] for index in record.labels]
        if (self._folder / HEAT_MAPS).is_dir():
            for name in {*classes} - {*shown}:  # of an earlier run
                (self._folder / heat_map_path(record.id, name)).unlink(missing_ok=True)
        for name, values in zip(shown, () if heat is None else heat, strict=True):
            with output(self._folder / heat_map_path(record.id, name), clear=False) as path:
                _save(heat_overlay(image, values, name), path)

    def _write_table(self, rows: Mapping[str, Row]) -> None:
        with output(self._folder / TABLE) as path:
            path.write_bytes(table_bytes([heading(self._facts.classes), *table_rows(self._images, rows)]))

    def _clear_away(self) -> None:
        """What killed processes have left unfinished."""
        for place in (self._folder, *(self._folder / name for name in FOLDERS)):
            for path in place.glob(".*") if place == self._folder else place.rglob(".*"):
                found = _UNFINISHED.fullmatch(path.name)
                if found and path.is_file() and not _is_alive(int(found[1])):
                    path.unlink(missing_ok=True)


def _save(picture: Image.Image, path: Path) -> None:
    picture.thumbnail((_JPEG_SIDE, _JPEG_SIDE))  # of larger ones alone
    picture.save(path, quality=90)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
