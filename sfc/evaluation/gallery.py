"""Contact sheets of a product: the same few images every time, side by side with their ground truth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from sfc.data.images import IGNORE, read_image, read_mask
from sfc.data.manifest import BACKGROUND, Record, label_keys
from sfc.evaluation import drawing
from sfc.evaluation.cam_rule import CamRule
from sfc.fusion import to_labels
from sfc.label_archive import LabelArchive

_GAP, _CAPTION, _TITLE, _HEAD = 8, 20, 24, 56  # pixels
_STEP_X, _STEP_Y = drawing.TILE[0] + _GAP, drawing.TILE[1] + _CAPTION + _GAP
_HEATS_IN_ROW = 3  # further classes go to the next row, so that every sheet has one width


@dataclass(frozen=True)
class Block:
    """What a sheet shows of one image: rows of (caption, tile), all of one length."""

    title: str
    rows: list[list[tuple[str, Image.Image]]]
    heat: bool  # heat maps are among the tiles


def choose(records: Sequence[Record], count: int) -> list[Record]:
    """At most `count` records in list order, fixed by the list alone.

    First, from the rarest class on, the earliest image that shows most of the classes not seen so far, until every
    class is seen; then images spread evenly over the rest of the list.
    """
    frequency = Counter(label for record in records for label in record.labels)
    chosen: set[int] = set()
    unseen = set(frequency)
    for label in sorted(frequency, key=lambda label: (frequency[label], label)):
        if label in unseen and len(chosen) < count:
            showing = [i for i, record in enumerate(records) if label in record.labels]
            best = max(showing, key=lambda i: len(unseen.intersection(records[i].labels)))
            chosen.add(best)
            unseen.difference_update(records[best].labels)
    rest = [i for i in range(len(records)) if i not in chosen]
    wanted = min(count - len(chosen), len(rest))
    chosen.update(rest[(2 * i + 1) * len(rest) // (2 * wanted)] for i in range(wanted))
    return [records[i] for i in sorted(chosen)]


def label_block(archive: LabelArchive, classes: Sequence[str], product: str, record: Record) -> Block:
    """Image, ground truth, the product's label map, and the colours in them."""
    labels = archive.read(record.id)
    truth = read_mask(record.mask) if record.mask else None
    row = [
        ("image", drawing.photograph(read_image(record.image))),
        _truth_tile(truth),
        (product, drawing.label_picture(labels)),
        ("colours", _legend([labels] if truth is None else [truth, labels], classes)),
    ]
    return Block(_title(record, classes), [row], heat=False)


def cam_block(rule: CamRule, classes: Sequence[str], record: Record) -> Block:
    """Image, ground truth, the labels of every map, and for each present class one heat map a kind."""
    image = read_image(record.image)
    truth = read_mask(record.mask) if record.mask else None
    normalised = rule.normalised(record)
    keys = label_keys(record.labels)
    maps = [to_labels(rule.cams(normalised, name).max(0).indices, keys) for name in rule.maps]
    labels = [(f"labels: {name}", drawing.label_picture(label)) for name, label in zip(rule.maps, maps, strict=True)]
    colours = ("colours", _legend([*maps, *([] if truth is None else [truth])], classes))
    heats = [
        [
            (f"{classes[label]}: {kind}", drawing.heat_picture(image, normalised[k, 1 + i].numpy()))
            for i, label in enumerate(record.labels)
        ]
        for k, kind in enumerate(rule.store.kinds)
    ]
    left = [("image", drawing.photograph(image)), _truth_tile(truth), *labels, colours]
    return Block(_title(record, classes), _arrange(left, heats), heat=True)


def _arrange(left: list, heats: list[list]) -> list[list]:
    """Tiles of `left` in columns of one tile a kind, then the heat maps; what does not fit starts further rows."""
    kinds = len(heats)
    columns = [left[i : i + kinds] for i in range(0, len(left), kinds)]
    empty = ("", Image.new("RGB", drawing.TILE, drawing.PAPER))
    rows = []
    for start in range(0, max(len(heats[0]), 1), _HEATS_IN_ROW):
        for k in range(kinds):
            shown = heats[k][start : start + _HEATS_IN_ROW]
            first = [column[k] if start == 0 and k < len(column) else empty for column in columns]
            rows.append([*first, *shown, *[empty] * (_HEATS_IN_ROW - len(shown))])
    return rows


def write_sheets(folder: Path, name: str, heading: str, blocks: Sequence[Block]) -> int:
    """Write NAME_1.png, NAME_2.png, ... under one heading; returns the number of sheets."""
    wide = bool(blocks) and (blocks[0].heat or len(blocks[0].rows) > 1)
    per_sheet, columns = (4, 1) if wide else (8, 2)
    groups = [blocks[i : i + per_sheet] for i in range(0, len(blocks), per_sheet)]
    for number, group in enumerate(groups, start=1):
        sheet = _sheet(f"{heading} (sheet {number} of {len(groups)})", group, columns)
        sheet.save(folder / f"{name}_{number}.png", compress_level=6)
    return len(groups)


def _sheet(heading: str, blocks: Sequence[Block], columns: int) -> Image.Image:
    width = max(len(block.rows[0]) for block in blocks) * _STEP_X + 2 * _GAP
    lines = [blocks[i : i + columns] for i in range(0, len(blocks), columns)]
    heights = [_TITLE + max(len(block.rows) for block in line) * _STEP_Y + _GAP for line in lines]
    sheet = Image.new("RGB", (width * min(columns, len(blocks)), _HEAD + sum(heights)), drawing.PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((_GAP, _HEAD / 2), heading, fill=drawing.INK, font=drawing.font(20), anchor="lm")
    if blocks[0].heat:
        _scale(sheet, draw)
    y = _HEAD
    for line, height in zip(lines, heights, strict=True):
        draw.line((0, y, sheet.width, y), fill=drawing.FAINT, width=2)
        for i, block in enumerate(line):
            _paste(sheet, draw, block, i * width + _GAP, y)
        y += height
    return sheet


def _paste(sheet: Image.Image, draw: ImageDraw.ImageDraw, block: Block, left: int, top: int) -> None:
    draw.text((left, top + _TITLE / 2 + 2), block.title, fill=drawing.INK, font=drawing.font(15), anchor="lm")
    for j, row in enumerate(block.rows):
        for i, (caption, tile) in enumerate(row):
            x, y = left + i * _STEP_X, top + _TITLE + j * _STEP_Y
            text = drawing.shorten(caption, drawing.TILE[0], 13)
            draw.text((x, y + _CAPTION / 2), text, fill=drawing.INK, font=drawing.font(13), anchor="lm")
            sheet.paste(tile, (x, y + _CAPTION))


def _scale(sheet: Image.Image, draw: ImageDraw.ImageDraw) -> None:
    """Colour scale of the heat maps at the right end of the heading."""
    ramp = drawing.heat_colours(np.tile(np.linspace(0, 1, 160), (14, 1))).round().astype(np.uint8)
    left, middle = sheet.width - 200, _HEAD // 2
    sheet.paste(Image.fromarray(ramp), (left, middle - 7))
    style = {"fill": drawing.INK, "font": drawing.font(13)}
    draw.text((left - 8, middle), "activation, share of the maximum: 0", anchor="rm", **style)
    draw.text((left + 168, middle), "1", anchor="lm", **style)


def _title(record: Record, classes: Sequence[str]) -> str:
    return f"{record.id}: {', '.join(classes[label] for label in record.labels) or 'no class'}"


def _truth_tile(truth: np.ndarray | None) -> tuple[str, Image.Image]:
    return "ground truth", drawing.blank("no mask") if truth is None else drawing.label_picture(truth)


def _legend(maps: Sequence[np.ndarray], classes: Sequence[str]) -> Image.Image:
    values = sorted({int(value) for labels in maps for value in np.unique(labels)})
    names = {0: BACKGROUND, IGNORE: "ignored", **{i + 1: name for i, name in enumerate(classes)}}
    return drawing.legend(values, [names.get(value, f"value {value}") for value in values])
