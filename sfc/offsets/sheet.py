"""The contact sheet of offsets: the same images at several of them, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

from sfc.data.images import read_mask, read_record
from sfc.data.manifest import BACKGROUND, Record, label_keys
from sfc.evaluation import drawing
from sfc.evaluation.gallery import Block


def offset_block(
    record: Record,
    cams: np.ndarray,
    crf: np.ndarray,
    columns: Mapping[int, str],
    classes: Sequence[str],
    *,
    show_mask: bool,
) -> Block:
    """Image, labels of the CAMs and below them of the CRF, a column an offset, with the share of foreground of each.

    Args:
        cams, crf: (O, H, W) uint8 label maps of the record.
        columns: which offsets to show, by their number, and what to call each.
        show_mask: the mask below the image; only of images whose mask may be looked at.
    """
    keys = label_keys(record.labels)
    legend = drawing.legend(keys, [(BACKGROUND, *classes)[key] for key in keys])
    rows = [[("image", drawing.photograph(read_record(record)))], [("colours", legend)]]
    for number, name in columns.items():
        for row, what, maps in zip(rows, ("CAM", "CRF"), (cams, crf), strict=True):
            share = 100 * (maps[number] > 0).mean()
            row.append((f"{name}: {what}, {share:.0f} % foreground", drawing.label_picture(maps[number])))
    if show_mask and record.mask:
        nothing = ("", Image.new("RGB", drawing.TILE, drawing.PAPER))
        rows = [[row[0], column, *row[1:]] for row, column in zip(rows, (_mask(record), nothing), strict=True)]
    names = ", ".join(classes[label] for label in record.labels)
    return Block(f"{record.id}: {names or 'no class'}", rows, heat=False)


def _mask(record: Record) -> tuple[str, Image.Image]:
    return "mask", drawing.label_picture(read_mask(record.mask))


def shown_offsets(number: int, marked: Sequence[int], count: int) -> list[int]:
    """`count` of the numbers 0 .. number - 1 spread evenly, and those `marked`, ascending."""
    even = np.linspace(0, number - 1, min(count, number)).round().astype(int).tolist()
    return sorted({*even, *marked})
