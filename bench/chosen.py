"""`python -m bench.chosen RUN ..`: CAM networks read as training images with masks prefer, measured on other images.

RUN is a folder as `bench.photographs` makes them: params.yaml, out/ and networks/STEP.safetensors. For each network and
map the products with the pixel correlation and the rule for the background are chosen on every sixth training image
that has a mask, and measured on the validation images and on the other training images: one scale, no flip, absent
classes masked. Images in dataset.tuning take no part. What was counted stays in RUN/chosen, so that a later call, with
more runs, counts only what is new or has changed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import click
import numpy as np
from torch import Tensor

from bench.all_readings import Map, Reader
from bench.background_rules import NOTHING, RELEASED, TRIED, Rule, RuleSweep
from bench.chosen_counts import PARTS, Counts
from bench.chosen_tables import CONSTANT, tables
from sfc.data.images import read_mask
from sfc.data.manifest import Manifest, Record, label_keys, read_manifest
from sfc.errors import UserError
from sfc.evaluation.confusion import Confusion
from sfc.fusion import to_labels
from sfc.methods import load_cam_network
from sfc.model_file import CAM, read_facts
from sfc.params import load_params
from stages._errors import errors_as_lines
from stages._stage import device

EVERY = 6  # of the training images with a mask, those of the choice


@dataclass(frozen=True)
class Row:
    """A map under a rule.

    Attributes:
        name: what was chosen, or the name of a fixed rule.
        miou: in percent on the images of the choice, of what was chosen there.
    """

    name: str
    map: Map
    rule: Rule
    miou: float | None = None


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument(
    "runs", nargs=-1, required=True, type=click.Path(exists=True, file_okay=False, resolve_path=True, path_type=Path)
)
def main(runs: tuple[Path, ...]) -> None:
    """Choose how each network of RUNS is read, measure it so, and print the tables."""
    with errors_as_lines():
        networks = [path for run in dict.fromkeys(runs) for path in _networks(run)]
        for path in networks:
            _count(path)
        click.echo(tables(networks))


def _networks(run: Path) -> list[Path]:
    paths = sorted((run / "networks").glob("*.safetensors"))
    for path in paths:
        if not path.stem.isdecimal():
            raise UserError(f"{path}: name it by the step it is of, such as 000930.safetensors")
    if not paths:
        raise UserError(f"{run}/networks: no STEP.safetensors there; copy out/cam.safetensors, or see docs/machines.md")
    return paths


def _count(path: Path) -> None:
    """Choose and count what RUN/chosen lacks of a network."""
    run, counts = path.parents[1], Counts(path)
    params, manifest = load_params(run / "params.yaml"), _manifest(run)
    facts = read_facts(path, task=CAM)
    facts.check_classes(manifest.classes, path)
    images, cam = _images(run, manifest), params.get("cam")
    weights = params.get(f"fusion.{facts.network['method']}.eval").weights
    key = _key(path, {part: _ids(records) for part, records in images.items()}, dict(weights), cam.precision)
    if counts.facts().get("key") == key and counts.complete():
        return
    reader = Reader(load_cam_network(path, device()), cam, weights)
    name = f"{run.name}, {int(path.stem):,} steps"
    if counts.facts().get("key") != key:
        rows = _rows(reader, images["choice"], len(manifest.classes) + 1, f"{name}: choice")
        alike = {"train_cam": {**facts.params.get("train_cam", {}), "method": None}, "classes": manifest.classes}
        alike |= {"step": int(path.stem), "ids": {part: _ids(records) for part, records in images.items()}}
        written = [asdict(row) for row in rows]
        counts.start({"key": key, "method": facts.network["method"], "alike": alike, "rows": written})
    rows = [
        Row(each["name"], Map(**each["map"]), Rule(**each["rule"]), each["miou"]) for each in counts.facts()["rows"]
    ]
    wanted = {"val": rows, "train": [row for row in rows if row.miou is not None]}
    for part in PARTS:
        if not counts.has(part):
            label = f"{name}: {part}"
            counts.write(part, _counted(reader, images[part], wanted[part], len(manifest.classes) + 1, label))


def _manifest(run: Path) -> Manifest:
    """The manifest of a run, whose relative paths are of its folder."""
    found = read_manifest(run / "out/manifest.csv", run / "out/classes.json", tuning=run / "out/tuning.json")
    records = (replace(r, image=run / r.image, mask=r.mask and run / r.mask) for r in found.records)
    return replace(found, records=tuple(records))


def _images(run: Path, manifest: Manifest) -> dict[str, list[Record]]:
    """Images with a mask: of the choice, of val, and the others of train; UserError if there are none."""
    train, val = ([record for record in manifest.members(split) if record.mask] for split in ("train", "val"))
    if len(train) < 2 or not val:
        raise UserError(f"{run}: {len(train)} training and {len(val)} validation images with masks; two and one needed")
    others = [record for number, record in enumerate(train) if number % EVERY]
    return {"choice": train[::EVERY], "val": val, "train": others}


def _ids(records: Sequence[Record]) -> list[str]:
    return sorted(record.id for record in records)


def _key(network: Path, ids: Mapping[str, list[str]], *settings: object) -> str:
    """Of all that the counts rest on but pixels."""
    with network.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    tried = {str(gain): values for gain, values in TRIED.items()}
    return hashlib.sha256(json.dumps([digest, ids, tried, *settings], sort_keys=True).encode()).hexdigest()


def groups(maps: Sequence[Map]) -> dict[str, list[Map]]:
    """The maps among which a reading is chosen, by the name of that choice."""
    found: dict[str, list[Map]] = {}
    apart = any(each.seeds != each.products for each in maps)
    for each in maps:
        if apart and each.name == "sum":
            name = "sum, seeds before PCM" if each.seeds == 0 else "sum, seeds after PCM"
            found.setdefault(name, []).append(each)
        else:
            found.setdefault(each.name, []).append(each)
    return found


def _rows(reader: Reader, records: Sequence[Record], num_classes: int, label: str) -> list[Row]:
    """What is chosen of each group of maps, and each map by the fixed rules."""
    sweeps = {each: RuleSweep(num_classes) for each in reader.maps}

    def count(record: Record, maps: dict[Map, Tensor]) -> None:
        truth, keys = read_mask(record.mask), label_keys(record.labels)
        for each, sweep in sweeps.items():
            sweep.add(record.id, truth, maps[each], keys[1:])

    reader.each(records, label, count)
    chosen = [_best(name, {each: sweeps[each] for each in maps}) for name, maps in groups(reader.maps).items()]
    fixed = [Row(str(rule), each, rule) for each in reader.maps for rule in (NOTHING, RELEASED)]
    constant = [Row(CONSTANT, each, sweep.best(None)[0]) for each, sweep in sweeps.items()]
    return [*chosen, *fixed, *constant]


def _best(name: str, sweeps: Mapping[Map, RuleSweep]) -> Row:
    """The map and rule with the highest mIoU; the first if several have it."""
    tried = [(each, *sweep.best(gain)) for each, sweep in sweeps.items() for gain in TRIED]
    each, rule, miou = max(tried, key=lambda found: found[2])
    return Row(name, each, rule, 100 * miou)


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
    return np.array([[confusion.per_image[id] for id in _ids(records)] for confusion in found])


if __name__ == "__main__":
    main()
