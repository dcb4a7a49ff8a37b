"""Ultralytics' layout for semantic segmentation, PNG masks.

images/SPLIT/ID.jpg
masks/SPLIT/ID.png      8-bit grey: 0 background, i + 1 class i, 255 ignored
data.yaml               the two splits, masks_dir, and the name of each value
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from sfc.data.images import IGNORE, read_mask
from sfc.data.manifest import BACKGROUND, Record
from sfc.errors import UserError
from sfc.exchange.images import copy_image
from sfc.exchange.voc import UNDECIDED
from sfc.exchange.yaml_text import quoted
from sfc.params import read_yaml

NAMES = "data.yaml"
MASKS = "masks"


def write_ultralytics(folder: Path, items: Iterable[tuple[Record, np.ndarray]], classes: Sequence[str]) -> None:
    """Write the layout; arguments as `sfc.exchange.voc.write_voc`, raises UserError if an image cannot be read."""
    splits = {}
    for record, label in items:
        splits[record.split] = f"images/{record.split}"
        copy_image(record, folder / splits[record.split])
        path = folder / MASKS / record.split / f"{record.id}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(label).save(path)
    any_split = next(iter(splits.values()), "images/train")
    splits = {"train": any_split, "val": any_split, **splits}  # the tool asks for both
    lines = [f"{split}: {path}" for split, path in splits.items()]
    lines += [f"masks_dir: {MASKS}", "names:"]  # no path: the splits are looked for beside this file
    lines += [f"  {value}: {quoted(name)}" for value, name in enumerate((BACKGROUND, *classes))]
    (folder / NAMES).write_text("\n".join(lines) + "\n", encoding="utf-8")


class Values:
    """What the values of masks mean.

    Args:
        path: a data.yaml.
        classes: the C foreground classes.

    Raises:
        UserError: the file is not of that form.
    """

    def __init__(self, path: Path, classes: Sequence[str]):
        self.path = path
        wanted = dict.fromkeys(UNDECIDED, IGNORE) | {n: value for value, n in enumerate((BACKGROUND, *classes))}
        try:
            names = read_yaml(path.read_text(encoding="utf-8"), source=str(path))["names"]
            pairs = names.items() if isinstance(names, dict) else enumerate(names)
            names = [(int(value), name) for value, name in pairs]  # some tools write "0": in quotes
            if not all(isinstance(name, str) for _, name in names):
                raise TypeError("names are texts")
            if len(dict(names)) < len(names):
                raise ValueError("a value has two names")
        except (OSError, ArithmeticError, TypeError, KeyError, ValueError) as error:
            raise UserError(f"{path}: no names of the masks' values ({error!r}); export it again") from None
        self.names = dict(names)
        self.values = {value: wanted[name] for value, name in names if name in wanted} | {IGNORE: IGNORE}

    def label_map(self, path: Path) -> np.ndarray:
        """The mask at `path` as (H, W) uint8; UserError if it holds a value that is no class."""
        mask = read_mask(path)
        table = np.zeros(256, np.uint8)
        for value in map(int, np.unique(mask)):
            if value not in self.values:
                name = f" ({self.names[value]})" if value in self.names else ""
                raise UserError(f"{path}: value {value}{name} is none of the data set's classes")
            table[value] = self.values[value]
        return table[mask]
