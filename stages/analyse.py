"""Stage analyse: do common classes cover rare ones in this data set, and did the calibration help?"""

from __future__ import annotations

import numpy as np

from sfc.analysis.images import shared_features
from sfc.analysis.summary import activations, end_means, ends, head_to_tail
from sfc.analysis.tables import read_gradients, read_rates, write_cosines, write_rates
from sfc.config import Analyse
from sfc.data.manifest import read_manifest
from sfc.data.spread import spread_over_classes
from sfc.methods import load_cam_network
from stages._stage import device, output, progress, say, stage, workers, write_json

PROTOCOL = {
    "masks": "pixels by the masks, of images that have one, evenly over classes; rates as evaluate@cam has them",
    "seeds": "no masks{but}: pixels by the seeds of the CAMs, so nothing can be called over- or under-activated",
}


@stage(
    "Measure what classes share in the trained CAM network (Eq. 10 to 16), beside over- and under-activation.\n\n"
    "Before and after calibration: within a model, the first kind of CAM against the one that stands for the method "
    "(SFC: classifier-weight CAM and the sum of Eq. 9); between models, dvc metrics diff and dvc plots diff of an "
    "experiment without the losses.",
    reads="out/manifest.csv, classes.json, tuning.json, cam.safetensors; plots/train_cam_gradients.csv and "
    "evaluate_cam_per_class.csv; the images, and masks where there are any",
    writes="metrics/analyse.json, plots/analyse_cosines.csv, plots/analyse_rates.csv",
)
def main(analyse: Analyse) -> str:
    manifest = read_manifest("out/manifest.csv", "out/classes.json", tuning="out/tuning.json")
    records = manifest.split(analyse.split)
    with_mask = [record for record in records if record.mask and record.labels]
    pixels, records = ("masks", with_mask) if with_mask else ("seeds", records)
    records = [records[i] for i in spread_over_classes([r.labels for r in records], analyse.images)]
    counts = manifest.label_matrix(manifest.split("train")).sum(0).astype(int).tolist()
    order = head_to_tail(counts)
    rates = read_rates("plots/evaluate_cam_per_class.csv", analyse.split, manifest.classes)
    gradients = read_gradients("plots/train_cam_gradients.csv", manifest.classes)

    used_up = manifest.tuning_by_split().get(analyse.split, 0)
    but = f" but {used_up:,} in dataset.tuning, which are used up" if used_up else ""
    if not with_mask:
        say(f"analyse: no image of a class in {analyse.split} has a mask{but}: no over- or under-activation to measure")
    target = device()
    cosines = shared_features(
        load_cam_network("out/cam.safetensors", target),
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
    with output("plots/analyse_cosines.csv") as path:
        write_cosines(path, cosines, manifest.classes, order)
    with output("plots/analyse_rates.csv") as path:
        write_rates(path, analyse.split, rates, manifest.classes, order)
    head, tail = ends([c for c in order if counts[c]], analyse.tail_share)
    facts = {
        "split": analyse.split,
        "images": len(records),
        "pixels": pixels,
        "protocol": PROTOCOL[pixels].format(but=but),
        "images_per_class": {"largest": max(counts), "smallest": min(counts)},
        "head": " ".join(manifest.classes[c] for c in head),
        "tail": " ".join(manifest.classes[c] for c in tail),
    }
    write_json("metrics/analyse.json", facts | _figures(cosines, rates, gradients, head, tail))
    return f"analyse: {len(records)} images of {analyse.split}, pixels by {pixels}, to metrics/analyse.json"


def _figures(cosines, rates, gradients, head, tail) -> dict:
    """Figures of head and tail: cosines in -1..1, gradients in -1..1, rates in percent."""
    own = np.diag(cosines.weight_and_prototype.numpy())
    found = {
        name: {rate: end_means(values, head, tail) for rate, values in of_classes.items()}
        for name, of_classes in rates.items()
    }
    return {
        "activation": {
            "classifier_weight": activations(cosines.weight_on_pixels.numpy(), head, tail),
            "prototype": activations(cosines.prototype_on_pixels.numpy(), head, tail),
        },
        "weight_and_prototype": end_means(own, head, tail),
        "gradient": {side: end_means(values, head, tail) for side, values in gradients.items()},
        **found,
    }


if __name__ == "__main__":
    main()
