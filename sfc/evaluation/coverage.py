"""Which images of which split a product covers."""

from __future__ import annotations

from collections.abc import Collection

from sfc.data.manifest import Manifest, Record
from sfc.errors import UserError


def covered_splits(manifest: Manifest, ids: Collection[str], source: str) -> dict[str, list[Record]]:
    """The records of each split that `ids` belong to, in manifest order.

    Args:
        ids: image ids of the product.
        source: where they come from, for errors.

    Raises:
        UserError: no id at all, an id the manifest does not have, or only a part of the images of a split that have
            a mask: figures of different runs could not be compared.
    """
    if not ids:
        raise UserError(f"{source}: holds no image; make it again")
    present = set(ids)
    unknown = sorted(present - {record.id for record in manifest.records})
    if unknown:
        raise UserError(f"{source}: image {unknown[0]} is not in the manifest; make it again from the present manifest")
    splits: dict[str, list[Record]] = {}
    for record in manifest.records:
        if record.id in present:
            splits.setdefault(record.split, []).append(record)
    for record in manifest.records:
        if record.split in splits and record.mask and record.id not in present:
            raise UserError(f"{source}: covers split {record.split} but not its image {record.id}; make it again")
    return dict(sorted(splits.items()))
