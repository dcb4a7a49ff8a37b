"""Stage predict: the segmentation model's label map of every image of a split."""

from __future__ import annotations

from sfc.config import Predict
from sfc.data.images import equal_sizes
from sfc.data.manifest import read_manifest
from sfc.model_file import SEGMENTATION, read_facts
from sfc.segmentation.inference import predict_labels, ready_segmenter
from sfc.segmentation.models import load_segmenter
from sfc.training import distributed
from stages._labels import LabelShards, label_shards
from stages._scratch import Scratch
from stages._stage import device, progress, say, stage, workers, write_json

MODEL = "out/seg.safetensors"


@stage(
    "Segment the images of a split by the segmentation model.",
    reads=f"out/manifest.csv, out/classes.json, {MODEL}, the images of the split",
    writes="out/predictions.zip, metrics/predict.json",
)
def main(predict: Predict) -> str:
    target = device()
    distributed.start(target)
    manifest = read_manifest("out/manifest.csv", "out/classes.json")
    records = manifest.members(predict.split)
    read_facts(MODEL, task=SEGMENTATION).check_classes(manifest.classes, MODEL)
    network = ready_segmenter(load_segmenter(MODEL, target), precision=predict.precision)
    if not records:
        say(f"predict: the data set has no image in split {predict.split}: nothing to predict; see predict.split")
    say(f"predict: {len(records):,} {predict.split} images at scales {', '.join(map(str, predict.scales))} on {target}")

    with Scratch("predict", sections=[predict], inputs=["out/manifest.csv", "out/classes.json", MODEL]) as scratch:
        # Whole batches are shared out, so that their make-up, and the bytes, do not depend on the number of processes.
        shards = LabelShards(
            scratch, label_shards(equal_sizes(records, predict.batch_size)), {"labels": "out/predictions.zip"}
        )
        labels = predict_labels(
            network,
            shards.batches,
            scales=predict.scales,
            merge=predict.merge,
            flip=predict.flip,
            precision=predict.precision,
            device=target,
            crf=predict.crf.model_dump(exclude={"enabled"}) if predict.crf.enabled else None,
            workers=workers(),
        )
        shards.write((id, [label]) for id, label in progress(labels, total=shards.images, label="predicting"))
        counts = shards.join([record.id for record in records], counted="labels")
        if distributed.is_main():
            write_json(
                "metrics/predict.json",
                {
                    "split": predict.split,
                    "images": len(records),
                    "foreground_fraction": float(1 - counts[0] / counts.sum()) if records else None,
                },
            )
    distributed.stop()
    return f"predict: {len(records):,} label maps to out/predictions.zip"


if __name__ == "__main__":
    main()
