"""Measure one product against the pixel masks, which beside this stage only `analyse` reads."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import click
import torch

from sfc.config import Evaluate, Fusion
from sfc.data.manifest import read_manifest
from sfc.data.pool import threaded_map
from sfc.errors import UserError
from sfc.evaluation.bootstrap import Bootstrap
from sfc.evaluation.cam_rule import CamRule
from sfc.evaluation.class_sets import resolve_sets
from sfc.evaluation.coverage import covered_splits
from sfc.evaluation.examples import cam_layers, choose_worst, label_layers, write_examples
from sfc.evaluation.gallery import cam_block, choose, label_block, write_sheets
from sfc.evaluation.tables import Measured, write_confusion, write_per_class
from sfc.evaluation.tallies import CamTally, LabelTally
from sfc.evaluation.thresholds import sweep_thresholds
from sfc.label_archive import LabelArchive
from sfc.localization.store import CamStore
from sfc.training import distributed
from stages._stage import Param, output, progress, stage, workers, write_json

PATHS = {
    "cam": "out/cams",
    "crf": "out/crf.zip",
    "pseudo_labels": "out/pseudo_labels.zip",
    "seg": "out/predictions.zip",
}
MEANING = {
    "cam": "class activation maps and the labels they give",
    "crf": "CAM labels refined by the dense CRF",
    "pseudo_labels": "what the segmentation model is trained on",
    "seg": "predictions of the segmentation model",
}
OF_TRAIN = ("crf", "pseudo_labels")  # what is trained on: an archive of other images is of another stage
# fusion.METHOD.USE whose bg_offset, which is tried on a few masks (the command `calibrate`), decides a product's labels
OFFSETS = {"cam": ("eval",), "crf": ("crf",), "pseudo_labels": ("crf", "walk"), "seg": ("crf", "walk")}


@click.argument("product", type=click.Choice(list(PATHS)))
@stage(
    "Measure a product against the masks of the images it covers (the fusion is for cam alone).",
    reads=f"out/manifest.csv, out/classes.json, out/tuning.json, the masks; {', '.join(PATHS.values())}",
    writes="metrics/evaluate_PRODUCT.json, plots/evaluate_PRODUCT_per_class.csv and _confusion.json, "
    "out/gallery/PRODUCT/, out/examples/PRODUCT.zip",
)
def main(
    product: str,
    evaluate: Evaluate,
    fusion: Annotated[Fusion, Param("fusion.{method}.eval")],
    refine: Annotated[str, Param("pseudo_labels.refine")],
) -> str:
    distributed.start(torch.device("cpu"))
    manifest = read_manifest("out/manifest.csv", "out/classes.json", tuning="out/tuning.json")
    sets = resolve_sets(evaluate.class_sets, manifest.classes)
    bootstrap = Bootstrap(**evaluate.bootstrap.model_dump())
    ids, new_tally, block, layers = _open(product, manifest.classes, evaluate.sweep, fusion)
    splits = _splits(product, manifest, ids)
    masked = {split: [record for record in records if record.mask] for split, records in splits.items()}
    tallies = {split: _counted(new_tally(), masked[split], f"{product} on {split}") for split in splits}
    main_process = distributed.is_main()
    distributed.stop()
    if not main_process:
        return f"evaluate {product}: counted"
    metrics, measured = {}, []
    tuned = manifest.tuning_by_split()
    tried = _tried(product, refine, tuned)
    for split, tally in tallies.items():
        with_mask, records = masked[split], splits[split]
        used_up = tuned.get(split, 0)
        metrics[split] = {"images": len(with_mask), "images_without_mask": len(records) - len(with_mask) - used_up}
        metrics[split] |= {"images_for_tuning": used_up} if used_up else {}
        metrics[split] |= {"tried_on_masks_of": tuned} if tuned else {}
        if with_mask:
            metrics[split] |= {"protocol": tally.protocol(split, tried), "stands_for": tally.stands_for}
            metrics[split] |= tally.metrics(sets, bootstrap)
        else:
            metrics[split] |= {"note": f"{_why_nothing(records, used_up)}: nothing to measure"}
        measured.append((split, with_mask or records, tally))
    # Plots and gallery show one split, so that products can be laid side by side: the first that has masks.
    measured.sort(key=lambda found: not metrics[found[0]]["images"])
    split, records, tally = measured[0]
    with output(f"plots/evaluate_{product}_per_class.csv") as path:
        tables = [Measured(name, counted.stands_for, counted.confusions) for name, _, counted in measured]
        write_per_class(path, product, tables, manifest.classes)
    with output(f"plots/evaluate_{product}_confusion.json") as path:
        write_confusion(path, tally.main, manifest.classes)
    sheets = _draw(product, split, records, tally, evaluate, manifest.classes, block, layers)
    write_json(f"metrics/evaluate_{product}.json", metrics)
    figures = ", ".join(_figure(split, tally, splits[split], metrics[split]) for split, _, tally in measured)
    return f"evaluate {product}: {figures}; metrics/evaluate_{product}.json, {sheets} sheets in out/gallery/{product}"


def _open(product, classes, sweep, fusion):
    """The product's image ids, and functions: that makes an empty tally, that draws a record's gallery block, and that
    gives its layers."""
    if product == "cam":
        store = CamStore(PATHS[product])
        rule = CamRule(store, **fusion.model_dump())
        thresholds = sweep_thresholds(sweep.start, sweep.stop, sweep.step)
        tally = partial(CamTally, rule, len(classes) + 1, thresholds)
        return store.ids, tally, partial(cam_block, rule, classes), partial(cam_layers, rule)
    archive = LabelArchive(PATHS[product])
    tally, block = partial(LabelTally, archive, len(classes) + 1), partial(label_block, archive, classes, product)
    return archive.ids, tally, block, partial(label_layers, archive)


def _splits(product, manifest, ids):
    """The records of the product, by split; UserError for an archive that cannot be of this product."""
    if not ids and product == "seg":  # it alone may have had no image: a data set need not have the split asked for
        return {"none": []}
    splits = covered_splits(manifest, ids, PATHS[product])
    if product in OF_TRAIN and list(splits) != ["train"]:
        raise UserError(
            f"{PATHS[product]}: holds images of {', '.join(splits)}, but {product} is of train alone; "
            f"run dvc repro -f {product}"
        )
    return splits


def _counted(tally, records, label):
    """The tally with all records counted on the main process; each counts its share."""
    mine = records[distributed.rank() :: distributed.world_size()]
    torch.set_num_threads(1)  # each thread below takes an image of its own
    for _ in progress(threaded_map(tally.add, mine, workers=workers()), total=len(mine), label=label):
        pass
    for counters in distributed.gathered(tally.counters)[1:]:
        for own, other in zip(tally.counters, counters, strict=True):
            own.merge(other)
    return tally


def _draw(product, split, records, tally, evaluate, classes, block, layers) -> int:
    """Contact sheets of the gallery, and for the report its images and the worst; returns the number of sheets."""
    fixed = choose(records, evaluate.gallery)
    with output(f"out/gallery/{product}") as folder:
        folder.mkdir()
        heading = f"{product}: {MEANING[product]}, {split} images"
        sheets = write_sheets(folder, product, heading, [block(record) for record in fixed])
    ids = [record.id for record in fixed]
    shown = {*ids, *choose_worst(tally.main.per_image, evaluate.worst)}
    facts = {"product": product, "meaning": MEANING[product], "split": split, "images": len(records)}
    with output(f"out/examples/{product}.zip") as path:
        examples = [record for record in records if record.id in shown]
        write_examples(path, facts, tally.stands_for, classes, examples, ids, tally.main.per_image, layers)
    return sheets


def _tried(product, refine, tuned):
    """What was tried on which masks, in words; None where nothing was. What came of it no file says."""
    if not tuned:
        return None
    uses = [use for use in OFFSETS[product] if use != "walk" or refine == "irn"]
    offsets = " and ".join(f"fusion.*.{use}.bg_offset" for use in uses)
    images = ", ".join(f"{count:,} of {split}" for split, count in tuned.items())
    return f"{offsets} tried or chosen on the masks in dataset.tuning ({images}), which no figure counts"


def _why_nothing(records, used_up):
    if not records:
        return "no image was predicted"
    used = f" but {used_up:,} in dataset.tuning, which are used up" if used_up else ""
    return f"no image of this split has a mask{used}"


def _figure(split, tally, records, metrics):
    if not tally.main.images.any():
        return f"split {split}, nothing to measure ({_why_nothing(records, metrics.get('images_for_tuning', 0))})"
    found = metrics.get(tally.stands_for, metrics)
    interval = f" [{found['miou_low']:.1f}, {found['miou_high']:.1f}]" if "miou_low" in found else ""
    return f"{split} mIoU {found['miou']:.1f}{interval} % on {metrics['images']:,} images"


if __name__ == "__main__":
    main()
