"""What the vote of mask proposals is worth where the proposals are drawn from ground truth, perfect and degraded.

    python -m bench.mask_proposals                     a table, from out/ and the masks of the training images
    python -m bench.mask_proposals --write parts FILE  such proposals as an archive for refine.proposals

Such proposals have seen the masks: the figures say how the vote bears proposals of a kind, not what a segmenter gives.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterator

import click
import numpy as np
from scipy import ndimage

from sfc.coco_masks import encode
from sfc.data.images import IGNORE, read_mask
from sfc.data.manifest import Manifest, Record, label_keys, read_manifest
from sfc.evaluation.confusion import Confusion, scores
from sfc.fusion import fuse, normalise_scales
from sfc.label_archive import LabelArchive
from sfc.localization.store import CamStore
from sfc.params import load_params
from sfc.proposals.vote import vote
from sfc.randomness import generator
from stages._errors import errors_as_lines

_TOUCHING = np.ones((3, 3), int)
Masks = list[np.ndarray]


def regions(truth: np.ndarray) -> Masks:
    """Each connected region of each class, background included, (H, W) bool."""
    found = []
    for value in map(int, np.unique(truth[truth != IGNORE])):
        numbers, count = ndimage.label(truth == value, _TOUCHING)
        found += [numbers == number for number in range(1, count + 1)]
    return found


def _perfect(masks: Masks, _: np.random.Generator) -> Masks:
    return masks


def _missing(masks: Masks, rng: np.random.Generator) -> Masks:
    """Every third is not there."""
    return [mask for mask in masks if rng.random() >= 1 / 3]


def _rough(masks: Masks, rng: np.random.Generator) -> Masks:
    """Each grown or shrunk by up to a tenth of its width, and moved by up to as much."""
    rough = []
    for mask in masks:
        reach = 0.1 * np.sqrt(np.count_nonzero(mask))
        inside, outside = ndimage.distance_transform_edt(mask), ndimage.distance_transform_edt(~mask)
        grown = outside - inside <= rng.uniform(-reach, reach)
        moved = ndimage.shift(grown.astype(np.uint8), rng.uniform(-reach, reach, 2).round(), order=0)
        rough.append(moved.astype(bool))
    return rough


def _parts(masks: Masks, rng: np.random.Generator) -> Masks:
    """Each cut into two to five parts, nearest one of as many of its pixels; no whole is left."""
    parts = []
    for mask in masks:
        pixels = np.argwhere(mask)
        centres = pixels[rng.choice(len(pixels), min(len(pixels), int(rng.integers(2, 6))), replace=False)]
        nearest = ((pixels[:, None] - centres) ** 2).sum(axis=2).argmin(axis=1)
        for part in range(len(centres)):
            parts.append(np.zeros_like(mask))
            parts[-1][tuple(pixels[nearest == part].T)] = True
    return parts


def _merged(masks: Masks, rng: np.random.Generator) -> Masks:
    """Every third has run together with one that touches it."""
    merged = []
    for mask in masks:
        around = ndimage.binary_dilation(mask, _TOUCHING)
        others = [other for other in masks if other is not mask and (other & around).any()]
        merged.append(mask | others[rng.integers(len(others))] if others and rng.random() < 1 / 3 else mask)
    return merged


def _all_at_once(masks: Masks, rng: np.random.Generator) -> Masks:
    """Wholes and parts, rough, some merged and some missing, as segmenters give them."""
    return _missing(_rough(_merged(masks, rng) + _parts(masks, rng), rng), rng)


KINDS: dict[str, Callable[[Masks, np.random.Generator], Masks]] = {
    "perfect": _perfect,
    "missing": _missing,
    "rough": _rough,
    "parts": _parts,
    "merged": _merged,
    "all": _all_at_once,
}


def proposals(record: Record, kind: str) -> Masks:
    """Proposals of one image from its mask, the same each time."""
    rng = generator(0, f"mask proposals, {kind}", int(record.image_hash[:8], 16))
    return [mask for mask in KINDS[kind](regions(read_mask(record.mask)), rng) if mask.any()]


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--write",
    type=(click.Choice(list(KINDS)), str),
    metavar="KIND FILE",
    help="Write proposals of a kind, and measure nothing.",
)
def main(write: tuple[str, str] | None) -> None:
    """Measure the vote on pseudo-labels and CRF labels in out/, with the rule of params.yaml and its variants."""
    with errors_as_lines():
        _main(write)


def _main(write: tuple[str, str] | None) -> None:
    manifest = read_manifest("out/manifest.csv", "out/classes.json")
    records = [record for record in manifest.split("train") if record.mask]
    if write is not None:
        with zipfile.ZipFile(write[1], "w", zipfile.ZIP_DEFLATED) as archive:
            for record in records:
                archive.writestr(f"{record.id}.json", json.dumps([encode(m) for m in proposals(record, write[0])]))
        return
    archives = {name: LabelArchive(f"out/{name}.zip") for name in ("pseudo_labels", "crf")}
    click.echo("| proposals | rule | walk | CRF |\n|--|--|--|--|")
    click.echo("| none | | " + " | ".join(_row(manifest, records, archives, None, {})) + " |")
    refine = load_params().get("refine").model_dump(exclude={"proposals"})
    rules = {"as params.yaml": refine}
    rules |= {"held: 0.85": {**refine, "held": 0.85}, "unclaimed: keep": {**refine, "unclaimed": "keep"}}
    for kind in KINDS:
        for name, rule in rules.items():
            click.echo(f"| {kind} | {name} | " + " | ".join(_row(manifest, records, archives, kind, rule)) + " |")


def _row(manifest: Manifest, records: list[Record], archives: dict, kind: str | None, rule: dict) -> Iterator[str]:
    """mIoU of each archive's labels after the vote."""
    confusions = {name: Confusion(1 + len(manifest.classes)) for name in archives}
    store, params = CamStore("out/cams"), load_params()
    fusion = params.get("fusion.{method}.walk").model_dump(include={"weights", "fg_gain", "bg_offset"})
    for record in records:
        truth = read_mask(record.mask)
        if kind is not None:
            masks = proposals(record, kind)
            maps = normalise_scales(store.fused_of(record), truth.shape)
            cams = fuse(maps, store.fused, **fusion).numpy()
        for name, archive in archives.items():
            label = archive.label_of(record)
            voted = label if kind is None else vote(label, cams, label_keys(record.labels), masks, **rule)
            confusions[name].add(record.id, truth, voted)
    return (f"{100 * scores(confusion.matrix).miou:.1f}" for confusion in confusions.values())


if __name__ == "__main__":
    main()
