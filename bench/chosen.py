"""`python -m bench.chosen RUN ..`: CAM networks read as training images with masks prefer, measured on other images.

RUN is a folder as `bench.photographs` makes them: params.yaml, out/ and networks/. For each network and map the
products with the pixel correlation and the rule for the background are chosen on every sixth training image that has a
mask, and measured on the validation images and on the other training images: one scale, no flip, absent classes masked.
What was counted stays in RUN/chosen, so that a later call, with more runs, infers nothing again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from torch import Tensor

from bench.all_readings import Map, Reader
from bench.background_rules import NOTHING, RELEASED, TRIED, Rule, RuleSweep
from bench.chosen_tables import counts_path, tables
from sfc.data.images import read_mask
from sfc.data.manifest import Record, label_keys, read_manifest
from sfc.evaluation.confusion import Confusion
from sfc.fusion import to_labels
from sfc.methods import load_cam_network
from sfc.params import load_params
from stages._errors import errors_as_lines
from stages._stage import device

EVERY = 6  # of the training images with a mask, those of the choice


@dataclass(frozen=True)
class Row:
    """A map under a rule, and its mIoU in percent on the images of the choice.

    Attributes:
        name: what was chosen, or the name of a fixed rule.
    """

    name: str
    map: Map
    rule: Rule
    miou: float


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("runs", nargs=-1, required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
def main(runs: tuple[Path, ...]) -> None:
    """Choose how each network of RUNS is read, measure it so, and print the tables."""
    with errors_as_lines():
        for run in runs:
            for network in sorted((run / "networks").glob("*.safetensors")):
                if not counts_path(network).exists():
                    _save(counts_path(network), _measured(run, network))
        click.echo(tables(runs))


def _save(path: Path, found: Mapping[str, Any]) -> None:
    path.parent.mkdir(exist_ok=True)
    unfinished = path.with_name(f"{path.name}.partial")
    with unfinished.open("wb") as file:
        np.savez_compressed(file, **found)
    os.replace(unfinished, path)


def _measured(run: Path, path: Path) -> dict[str, Any]:
    """ "facts" as JSON, and counts as `Confusion.per_image`, images by id.

    "val" (rows, images, 3, K) of all rows, "train" of those chosen alone.
    """
    params, manifest = (
        load_params(run / "params.yaml"),
        read_manifest(run / "out/manifest.csv", run / "out/classes.json"),
    )
    method, name = params.get("train_cam.method"), f"{run.name}, {int(path.stem):,} steps"
    network = load_cam_network(path, device())
    reader = Reader(network, params.get("cam"), params.get(f"fusion.{method}.eval").weights)
    masked = [record for record in manifest.members("train") if record.mask]
    images = {
        "choice": masked[::EVERY],
        "val": [record for record in manifest.members("val") if record.mask],
        "train": [record for number, record in enumerate(masked) if number % EVERY],
    }
    sweeps = _swept(reader, images["choice"], len(manifest.classes) + 1, f"{name}: choice")
    chosen = [_best(name, {each: sweeps[each] for each in maps}) for name, maps in groups(reader.maps).items()]
    rows = [*chosen, *(row for each, sweep in sweeps.items() for row in _fixed(each, sweep))]
    facts = {
        "step": int(path.stem),
        "images": {part: len(records) for part, records in images.items()},
        "rows": [asdict(row) for row in rows],
    }
    counted = {"val": rows, "train": chosen}
    counts = {
        part: _counted(reader, images[part], wanted, len(manifest.classes) + 1, f"{name}: {part}")
        for part, wanted in counted.items()
    }
    return {"facts": json.dumps(facts), **counts}


def groups(maps: Sequence[Map]) -> dict[str, list[Map]]:
    """The maps among which a reading is chosen, by the name of that choice."""
    found: dict[str, list[Map]] = {}
    before = any(each.seeds != each.products for each in maps)
    for each in maps:
        if each.seeds == each.products:
            found.setdefault(
                f"{each.name}, seeds after PCM" if before and each.name == "sum" else each.name, []
            ).append(each)
    if before:
        found["sum, seeds before PCM"] = [each for each in maps if each.name == "sum" and each.seeds == 0]
    return found


def _swept(reader: Reader, records: Sequence[Record], num_classes: int, label: str) -> dict[Map, RuleSweep]:
    """Each map at every rule that is tried."""
    found = {each: RuleSweep(num_classes) for each in reader.maps}

    def count(record: Record, maps: dict[Map, Tensor]) -> None:
        truth, keys = read_mask(record.mask), label_keys(record.labels)
        for each, sweep in found.items():
            sweep.add(record.id, truth, maps[each], keys[1:])

    reader.each(records, label, count)
    return found


def _best(name: str, sweeps: Mapping[Map, RuleSweep]) -> Row:
    """The map and rule with the highest mIoU; the first if several have it."""
    tried = [(each, *sweep.best(gain)) for each, sweep in sweeps.items() for gain in TRIED]
    each, rule, miou = max(tried, key=lambda found: found[2])
    return Row(name, each, rule, 100 * miou)


def _fixed(each: Map, sweep: RuleSweep) -> list[Row]:
    """Rules that know nothing of products and kinds, and the best constant background."""
    rules = {"nothing added": NOTHING, "released": RELEASED, "constant background": sweep.best(None)[0]}
    return [Row(name, each, rule, 100 * sweep.miou(rule)) for name, rule in rules.items()]


def _counted(
    reader: Reader, records: Sequence[Record], rows: Sequence[Row], num_classes: int, label: str
) -> np.ndarray:
    """(rows, images, 3, K) int32 of each row's map under its rule."""
    found = [Confusion(num_classes) for _ in rows]

    def count(record: Record, maps: dict[Map, Tensor]) -> None:
        truth, keys = read_mask(record.mask), label_keys(record.labels)
        for row, confusion in zip(rows, found, strict=True):
            labels = to_labels(row.rule.cams(maps[row.map]).max(0).indices, keys)
            confusion.add(record.id, truth, labels)

    reader.each(records, label, count)
    return np.array(
        [[confusion.per_image[record.id] for record in sorted(records, key=lambda r: r.id)] for confusion in found]
    )


if __name__ == "__main__":
    main()
