"""PASCAL VOC's layout, and CVAT's "Segmentation mask 1.1", which is VOC's with a list of colours.

JPEGImages/ID.jpg                         the images
SegmentationClass/ID.png                  the label maps
ImageSets/Segmentation/SPLIT.txt          an id a line; CVAT's split is called default
labelmap.txt                              label:red,green,blue:parts:actions, a line for each label
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from sfc.data.images import IGNORE, palette_png, read_image, voc_palette
from sfc.data.manifest import BACKGROUND, Record
from sfc.errors import UserError
from sfc.exchange.images import copy_image

LABELMAP = "labelmap.txt"
MASKS = "SegmentationClass"
_UNDECIDED = ("ignore", "void")  # labels that tools give what is not annotated: 255 in a label map


def write_voc(folder: Path, items: Iterable[tuple[Record, np.ndarray]], classes: Sequence[str]) -> None:
    """Write VOC's layout, with the class names and image-level labels that reader `voc` takes.

    Args:
        folder: an existing, empty folder.
        items: records and their label maps (H, W) uint8: 0 background, i + 1 class i, 255 void.
        classes: the C foreground classes.

    Raises:
        UserError: a class name cannot stand in labelmap.txt; an image cannot be read.
    """
    rows = []
    for record, label in items:
        _write_pair(folder, record, palette_png(label))
        rows.append((record.id, record.split, " ".join(classes[i] for i in record.labels)))
    for split in dict.fromkeys(split for _, split, _ in rows):
        _write_list(folder, split, [id for id, listed, _ in rows if listed == split])
    table = io.StringIO()
    csv.writer(table, lineterminator="\n").writerows([("image_id", "split", "classes"), *rows])
    (folder / "labels.csv").write_text(table.getvalue(), encoding="utf-8")
    (folder / "classes.txt").write_text("".join(f"{name}\n" for name in classes), encoding="utf-8")
    (folder / LABELMAP).write_text(_labelmap(classes), encoding="utf-8")


def write_cvat(folder: Path, items: Iterable[tuple[Record, np.ndarray]], classes: Sequence[str]) -> None:
    """Write "Segmentation mask 1.1"; beside it labels.json, what CVAT's raw editor of labels takes.

    The masks are in colours. CVAT refuses one that holds a value without a label, so 255 must not occur.

    Args, raises: as `write_voc`.
    """
    palette, ids = voc_palette(), []
    for record, label in items:
        png = io.BytesIO()
        Image.fromarray(palette[label]).save(png, format="PNG")
        _write_pair(folder, record, png.getvalue())
        ids.append(record.id)
    _write_list(folder, "default", ids)
    (folder / LABELMAP).write_text(_labelmap(classes), encoding="utf-8")
    labels = [
        {"name": name, "color": "#" + bytes(palette[value]).hex(), "type": "mask", "attributes": []}
        for value, name in enumerate(classes, 1)
    ]
    (folder / "labels.json").write_text(json.dumps(labels, indent=1) + "\n", encoding="utf-8")


def _write_pair(folder: Path, record: Record, png: bytes) -> None:
    copy_image(record, folder / "JPEGImages")
    path = folder / MASKS / f"{record.id}.png"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(png)


def _write_list(folder: Path, name: str, ids: Iterable[str]) -> None:
    path = folder / "ImageSets" / "Segmentation" / f"{name}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{id}\n" for id in ids), encoding="utf-8")


def _labelmap(classes: Sequence[str]) -> str:
    for name in classes:
        if ":" in name:
            raise UserError(f"class {name}: labelmap.txt parts its columns by colons; rename the class")
    colours = zip((BACKGROUND, *classes), voc_palette(), strict=False)
    lines = [f"{name}:{','.join(map(str, colour))}::\n" for name, colour in colours]
    return "".join(["# label:color_rgb:parts:actions\n", *lines])


class Colours:
    """What the colours of masks mean.

    Args:
        path: a labelmap.txt. Its labels `ignore` and `void` are 255; VOC's colours of 0 and 255 need no line.
        classes: the C foreground classes.

    Raises:
        UserError: the file is not of that form.
    """

    def __init__(self, path: Path, classes: Sequence[str]):
        self.path = path
        self.values = {name: value for value, name in enumerate((BACKGROUND, *classes))}
        self.values |= {name: IGNORE for name in _UNDECIDED if name not in self.values}
        usual = {(0, 0, 0): BACKGROUND, tuple(voc_palette()[IGNORE].tolist()): _UNDECIDED[0]}
        self.names = {**usual, **self._read()}

    def _read(self) -> dict[tuple[int, ...], str]:
        names = {}
        try:
            for line in self.path.read_text(encoding="utf-8-sig").splitlines():
                if line.strip() and not line.startswith("#"):
                    name, colour = line.split(":")[:2]
                    names[tuple(map(int, colour.split(",")))] = name.strip()
        except (OSError, ValueError) as error:
            raise UserError(f"{self.path}: not a list of label:red,green,blue:: ({error}); export it again") from None
        return names

    def label_map(self, path: Path) -> np.ndarray:
        """The mask at `path`, in colours or with a palette, as (H, W) uint8; UserError if a colour is no class."""
        image = read_image(path).astype(np.uint32)
        packed = image[..., 0] << 16 | image[..., 1] << 8 | image[..., 2]
        found, places = np.unique(packed, return_inverse=True)
        values = [self._value(path, (int(c) >> 16, int(c) >> 8 & 255, int(c) & 255)) for c in found]
        return np.array(values, np.uint8)[places.reshape(packed.shape)]

    def _value(self, path: Path, colour: tuple[int, int, int]) -> int:
        shown = ",".join(map(str, colour))
        if colour not in self.names:
            raise UserError(f"{path}: colour {shown} is no label of {self.path.name}")
        name = self.names[colour]
        if name not in self.values:
            raise UserError(f"{path}: label {name} (colour {shown}) is none of the data set's classes")
        return self.values[name]
