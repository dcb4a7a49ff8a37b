"""Masks that are used up: looked at once to choose something, and never counted again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from sfc.data.manifest import Manifest, Record, read_tuning, write_tuning
from sfc.data.spread import spread_over_classes
from sfc.errors import UserError
from sfc.params import read_text
from stages._overlay import with_param
from stages._stage import output, say

_TUNING, _PARAMS, _NAMED = Path("out/tuning.json"), Path("params.yaml"), 10


def spread(records: Sequence[Record], number: int) -> list[Record]:
    """At most `number` records with a class, evenly over the classes."""
    return [records[i] for i in spread_over_classes([record.labels for record in records], number)]


def use_up(manifest: Manifest, number: int) -> list[Record]:
    """As many training images with a mask, evenly over the classes, marked in params.yaml and in the manifest.

    Those that were marked before are taken first, and stay marked.

    Raises:
        UserError: there are fewer; the message names images to draw masks of.
    """
    train = manifest.split("train")
    with_mask = [record for record in train if record.mask and record.labels]
    if len(with_mask) < number:
        wanted = [record.id for record in spread([r for r in train if not r.mask], number - len(with_mask))]
        more = f" and {len(wanted) - _NAMED:,} more" if len(wanted) > _NAMED else ""
        raise UserError(
            f"--masks {number}: {len(with_mask):,} training images have a class and a mask; "
            f"draw masks of {', '.join(wanted[:_NAMED]) or 'more images'}{more}, or lower --masks"
        )
    before = read_tuning(_TUNING) if _TUNING.exists() else ()
    chosen = spread([record for record in with_mask if record.id in before], number)
    new = spread([record for record in with_mask if record.id not in before], number - len(chosen))
    if new:
        _mark([*before, *(record.id for record in new)])
    return [*chosen, *new]


def _mark(ids: Sequence[str]) -> None:
    text = with_param(read_text(_PARAMS), "dataset.tuning", json.dumps(ids))  # quotes: 2007_01 is a number in YAML 1.1
    with output(_PARAMS) as path:
        path.write_text(text, encoding="utf-8")
    with output(_TUNING) as path:
        write_tuning(ids, path)
    say(f"the masks of {len(ids):,} images stand in dataset.tuning of {_PARAMS}: no figure counts them from now on")
