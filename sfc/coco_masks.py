"""Masks as COCO writes them: polygons, or run lengths in either of its forms."""

from __future__ import annotations

import numpy as np
from pycocotools import mask as run_lengths

from sfc.errors import UserError


def decode(segmentation: list | dict, height: int, width: int) -> np.ndarray:
    """The pixels of one object, (H, W) bool, as COCO's own tools rasterise them.

    Args:
        segmentation: polygons [[x, y, x, y, ...], ...] of which an object is the union, or {"size", "counts"} with
            run lengths down the columns, as numbers or compressed to text.

    Raises:
        UserError: none of these, half a point of a polygon or one far outside, or run lengths of another size.
    """
    try:
        return (_polygons if isinstance(segmentation, list) else _runs)(segmentation, height, width)
    except (UserError, MemoryError):
        raise
    except Exception as error:  # the library raises bare Exception for some faults
        raise UserError(f"the segmentation is neither polygons nor run lengths ({error!r})") from None


def _polygons(polygons: list, height: int, width: int) -> np.ndarray:
    for polygon in polygons:
        if len(polygon) % 2:  # the library leaves the last number out
            raise UserError(f"a polygon has {len(polygon)} numbers; expected an x and a y of each point")
    points = np.concatenate([np.asarray(polygon, float) for polygon in polygons])
    outside = points[~(abs(points) <= 2 * max(height, width))]  # NaN, too
    if len(outside):  # the library needs memory by the distance, and crashes beyond its integers
        raise UserError(f"a polygon has a point at {outside[0]}, far outside the image of {width} x {height}")
    return run_lengths.decode(run_lengths.merge(run_lengths.frPyObjects(polygons, height, width))).astype(bool)


def _runs(coded: dict, height: int, width: int) -> np.ndarray:
    """Not by the library, which makes room for whatever size is said and reads on past the end of a text."""
    counts = coded["counts"] if isinstance(coded["counts"], list) else _counts(coded["counts"])
    if list(coded["size"]) != [height, width] or sum(counts) != height * width or min(counts) < 0:
        raise UserError(f"run lengths of size {coded['size']} that do not fill the image of {width} x {height}")
    return np.repeat(np.arange(len(counts)) % 2 == 1, counts).reshape(width, height).T


def _counts(text: str) -> list[int]:
    """Run lengths from COCO's text: five bits a character, lowest first, the sixth where a number goes on.

    From the fourth number on each is the difference to the one before the last.
    """
    counts: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64:
            raise ValueError(f"{character!r} in compressed run lengths")
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            value -= (bits >> 4 & 1) << shift
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            value = shift = 0
    return counts


def encode(mask: np.ndarray) -> dict:
    """(H, W) bool as compressed run lengths {"size": [H, W], "counts": text}, which JSON can hold."""
    coded = run_lengths.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": list(map(int, coded["size"])), "counts": coded["counts"].decode("ascii")}
