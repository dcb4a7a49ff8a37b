"""Masks that are used up: looked at once to try something, and never counted again."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from sfc.data.manifest import Manifest, Record, read_tuning, write_tuning
from sfc.data.spread import spread_over_classes
from sfc.errors import UserError
from sfc.exchange.yaml_text import quoted
from sfc.offsets.masks import least_covered
from sfc.params import load_params, read_text
from stages._overlay import with_param
from stages._stage import output, say

_TUNING, _PARAMS, _NAMED = Path("out/tuning.json"), Path("params.yaml"), 10


def spread(records: Sequence[Record], number: int) -> list[Record]:
    """At most `number` records with a class, evenly over the classes."""
    return [records[i] for i in spread_over_classes([record.labels for record in records], number)]


def use_up(manifest: Manifest, number: int) -> list[Record]:
    """As many training images with a mask, evenly over the classes, marked in params.yaml and in the manifest.

    Those that were marked before are taken first, and stay marked; new ones are of the classes that these show least.

    Raises:
        UserError: there are fewer; the message names images to draw masks of.
    """
    train = manifest.split("train")
    with_mask = [record for record in train if record.mask and record.labels]
    if len(with_mask) < number:
        wanted = [r.id for r in _even(train, number, with_mask) if not r.mask]
        more = f" and {len(wanted) - _NAMED:,} more" if len(wanted) > _NAMED else ""
        raise UserError(
            f"--masks {number}: {len(with_mask):,} training images have a class and a mask; "
            f"draw masks of {', '.join(wanted[:_NAMED]) or 'more images'}{more}, or lower --masks"
        )
    # either may have been put back to an older state: what is marked in one of them is used up
    listed, written = load_params().get("dataset.tuning"), read_tuning(_TUNING) if _TUNING.exists() else ()
    before = tuple(dict.fromkeys([*listed, *written]))
    chosen = _even([record for record in with_mask if record.id in before], number)
    chosen = _even(with_mask, number, chosen)
    new = [record.id for record in chosen if record.id not in before]
    if new or not set(before) == set(listed) == set(written):
        _mark([*before, *new])
    return chosen


def _even(records: Sequence[Record], number: int, taken: Collection[Record] = ()) -> list[Record]:
    """Those that are taken, and more up to `number`, evenly over the classes and in the order of the records."""
    before = {record.id for record in taken}
    rows = [row for row, record in enumerate(records) if record.id in before]
    rows += least_covered([record.labels for record in records], number - len(rows), rows)
    return [records[row] for row in sorted(rows)]


def _mark(ids: Sequence[str]) -> None:
    listed = ", ".join(map(quoted, ids))  # quotes: 2007_01 is a number in YAML 1.1
    text = with_param(read_text(_PARAMS), "dataset.tuning", f"[{listed}]")
    with output(_PARAMS) as path:
        path.write_text(text, encoding="utf-8")
    with output(_TUNING) as path:
        write_tuning(ids, path)
    say(f"the masks of {len(ids):,} images stand in dataset.tuning of {_PARAMS}: no figure counts them from now on")
