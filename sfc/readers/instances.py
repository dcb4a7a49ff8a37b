"""Semantic masks painted from instances, as COCO describes them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sfc.coco_masks import decode
from sfc.data.images import palette_png
from sfc.data.pool import ordered_map
from sfc.errors import UserError


class Instance(NamedTuple):
    """One object: its annotation's number, its value in the mask (1 .. C) and COCO's `segmentation` of it."""

    number: int
    value: int
    segmentation: list | dict


class Painting(NamedTuple):
    """A mask to be made: where to, how large, of which instances, the first of them farthest down."""

    path: Path
    height: int
    width: int
    instances: tuple[Instance, ...]


def paint(painting: Painting) -> tuple[int, ...]:
    """Write a mask as a palette PNG: 0 background, later instances over earlier ones.

    Returns:
        The 0-based classes that can be seen in it, sorted.

    Raises:
        UserError: an instance cannot be decoded.
    """
    label = np.zeros((painting.height, painting.width), np.uint8)
    for instance in painting.instances:
        try:
            label[decode(instance.segmentation, painting.height, painting.width)] = instance.value
        except UserError as error:
            raise UserError(f"image {painting.path.stem}, annotation {instance.number}: {error}") from None
    painting.path.write_bytes(palette_png(label))
    return tuple(int(value) - 1 for value in np.unique(label) if value)


def paint_all(paintings: Sequence[Painting], *, workers: int) -> Iterator[tuple[int, ...] | str]:
    """`paint` for all, in order, on worker processes (rasterising holds Python's lock); faults come as their text.

    Raises:
        UserError: as `ordered_map`.
    """
    return ordered_map(_attempt, paintings, workers=workers)


def _attempt(painting: Painting) -> tuple[int, ...] | str:
    try:
        return paint(painting)
    except UserError as error:
        return str(error)


def instance_of(annotation: dict[str, Any], value: int) -> Instance:
    """The instance a COCO annotation describes, with its value in the mask."""
    return Instance(annotation["id"], value, annotation["segmentation"])
