"""Stage analyse: do common classes cover rare ones in this data set, and did the calibration help?"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import torch

from sfc.analysis.images import shared_features
from sfc.analysis.summary import activations, end_means, ends, head_to_tail, spread_over_classes
from sfc.analysis.tables import write_cosines, write_rates
from sfc.calibration.network import load_cam_network
from sfc.config import Analyse, Fusion
from sfc.data.images import read_mask
from sfc.data.manifest import Record, read_manifest
from sfc.evaluation.cam_rule import CamRule
from sfc.evaluation.confusion import Confusion, scores
from sfc.localization.fusion import label_keys, to_labels
from sfc.localization.store import CamStore
from stages._stage import device, output, progress, say, stage, workers, write_json

PROTOCOL = {
    "masks": "pixels by the masks, of images that have one, evenly over classes; CAMs by the rule of fusion.eval",
    "seeds": "no masks: pixels by the seeds of the CAMs, so nothing can be called over- or under-activated",
}


@stage(
    "Measure what classes share in the trained CAM network (Eq. 10 to 16), and over- and under-activation.\n\n"
    "Before and after calibration: within a model, the classifier-weight CAM against the sum with the prototype CAM "
    "(Eq. 9); between models, dvc metrics diff and dvc plots diff of an experiment without the losses.",
    reads="out/manifest.csv, classes.json, label_stats.csv, sfc.safetensors, cams; plots/train_sfc_gradients.csv; the "
    "images, and masks where there are any",
    writes="metrics/analyse.json, plots/analyse_cosines.csv, plots/analyse_rates.csv",
    params=("analyse", "fusion.eval"),
)
def main(analyse: Analyse, fusion_eval: Fusion) -> str:
    manifest = read_manifest("out/manifest.csv", "out/classes.json")
    records = manifest.split(analyse.split)
    with_mask = [record for record in records if record.mask]
    pixels, records = ("masks", with_mask) if with_mask else ("seeds", records)
    records = [records[i] for i in spread_over_classes([r.labels for r in records], analyse.images)]
    counts = pd.read_csv("out/label_stats.csv")["n"].tolist()
    order = head_to_tail(counts)

    if not with_mask:
        say(f"analyse: no image of {analyse.split} has a mask: no over- or under-activation to measure")
    target = device()
    cosines = shared_features(
        load_cam_network("out/sfc.safetensors", target),
        records,
        use_masks=pixels == "masks",
        scale=analyse.scale,
        batch_size=analyse.batch_size,
        precision=analyse.precision,
        bkg_scale=analyse.bkg_scale,
        device=target,
        workers=workers(),
        progress=progress,
    )
    rule = CamRule(CamStore("out/cams"), **fusion_eval.model_dump())
    confusions = _confusions(rule, records if pixels == "masks" else [], len(manifest.classes) + 1)
    with output("plots/analyse_cosines.csv") as path:
        write_cosines(path, cosines, manifest.classes, order)
    with output("plots/analyse_rates.csv") as path:
        write_rates(path, analyse.split, confusions, manifest.classes, order)
    head, tail = ends([c for c in order if counts[c]], analyse.tail_share)
    facts = {
        "split": analyse.split,
        "images": len(records),
        "pixels": pixels,
        "protocol": PROTOCOL[pixels],
        "images_per_class": {"largest": max(counts), "smallest": min(counts)},
        "head": " ".join(manifest.classes[c] for c in head),
        "tail": " ".join(manifest.classes[c] for c in tail),
    }
    write_json("metrics/analyse.json", facts | _figures(cosines, confusions, manifest.classes, head, tail))
    return f"analyse: {len(records)} images of {analyse.split}, pixels by {pixels}, to metrics/analyse.json"


def _confusions(rule: CamRule, records: list[Record], num_classes: int) -> dict[str, Confusion]:
    """Of the first kind of CAM alone, before calibration, and of all, after it; a store may have one kind only."""
    confusions = {method: Confusion(num_classes) for method in (rule.methods[0], rule.methods[-1])}

    def add(record: Record) -> None:
        truth, normalised = read_mask(record.mask), rule.normalised(record)
        for method, confusion in confusions.items():
            labels = to_labels(rule.cams(normalised, method).max(0).indices, label_keys(record.labels))
            confusion.add(record.id, truth, labels)

    torch.set_num_threads(1)  # each thread below takes an image of its own
    with ThreadPoolExecutor(workers() or 1) as pool:
        for _ in progress(pool.map(add, records), total=len(records), label="CAMs"):
            pass
    return confusions


def _figures(cosines, confusions, classes, head, tail) -> dict:
    """Figures of head and tail: cosines in -1..1, gradients in -1..1, rates in percent."""
    # a class may be called 7 or null
    read = pd.read_csv("plots/train_sfc_gradients.csv", dtype={"class": str}, keep_default_na=False, na_values=[""])
    gradients = read.groupby("class")[["positive", "negative"]].mean()
    gradients = gradients.reindex(list(classes))
    own = np.diag(cosines.weight_and_prototype.numpy())
    rates = {}
    for method, confusion in confusions.items():
        found = scores(confusion.matrix)
        rates[method] = {
            name: end_means(100 * getattr(found, name)[1:], head, tail)
            for name in ("false_positive_rate", "false_negative_rate")
        }
    return {
        "activation": {
            "classifier_weight": activations(cosines.weight_on_pixels.numpy(), head, tail),
            "prototype": activations(cosines.prototype_on_pixels.numpy(), head, tail),
        },
        "weight_and_prototype": end_means(own, head, tail),
        "gradient": {side: end_means(gradients[side].to_numpy(), head, tail) for side in gradients},
        **rates,
    }


if __name__ == "__main__":
    main()
