"""The layouts in which label maps and their images go out to other tools, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from sfc.exchange.coco import write_coco
from sfc.exchange.ultralytics import write_ultralytics
from sfc.exchange.voc import write_cvat, write_voc


class Layout(NamedTuple):
    """`write(folder, items, classes)` fills an empty folder, see `sfc.exchange.voc.write_voc`.

    Attributes:
        undecided: whether the layout has a place for 255.
    """

    write: Callable
    undecided: bool


LAYOUTS = {
    "cvat": Layout(write_cvat, undecided=False),
    "voc": Layout(write_voc, undecided=True),
    "ultralytics": Layout(write_ultralytics, undecided=True),
    "coco": Layout(write_coco, undecided=False),
}
