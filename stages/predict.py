"""Stage predict: the segmentation model's label map of every image of a split."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from sfc.config import Predict
from sfc.data.manifest import Record, read_manifest
from sfc.data.whole_images import equal_sizes
from sfc.errors import UserError
from sfc.refinement.label_archive import LabelArchive, LabelArchiveWriter
from sfc.segmentation.deeplab import load_segmenter
from sfc.segmentation.inference import predict_labels
from sfc.training import distributed
from stages._spread import shared_folder
from stages._stage import device, output, progress, say, stage, workers, write_json

MODEL = "out/seg.safetensors"
PARTS = Path("out/.predictions.parts")  # one archive per process, until the main process joins them


@stage(
    "Segment the images of a split by the segmentation model.",
    reads=f"out/manifest.csv, out/classes.json, {MODEL}",
    writes="out/predictions.zip, metrics/predict.json",
    params=("predict",),
)
def main(predict: Predict) -> str:
    target = device()
    distributed.start(target)
    manifest = read_manifest("out/manifest.csv", "out/classes.json")
    records = manifest.split(predict.split)
    network = load_segmenter(MODEL, target)
    if network.num_classes != 1 + len(manifest.classes):
        raise UserError(
            f"{MODEL} tells apart {network.num_classes - 1} classes, out/classes.json has {len(manifest.classes)}; "
            "run the stage train_seg again"
        )
    say(f"predict: {len(records):,} {predict.split} images at scales {', '.join(map(str, predict.scales))} on {target}")

    # Whole batches are shared out, so that their make-up, and the bytes, do not depend on the number of processes.
    mine = equal_sizes(records, predict.batch_size)[distributed.rank() :: distributed.world_size()]
    labels = predict_labels(
        network,
        mine,
        scales=predict.scales,
        flip=predict.flip,
        precision=predict.precision,
        device=target,
        crf=predict.crf.model_dump(exclude={"enabled"}) if predict.crf.enabled else None,
        workers=workers(),
    )
    with shared_folder(PARTS) as folder, LabelArchiveWriter(folder / f"{distributed.rank()}.zip") as part:
        for id, label in progress(labels, total=sum(map(len, mine)), label="predicting"):
            part.write(id, label)
    if distributed.is_main():
        foreground = _join(PARTS, records)
        shutil.rmtree(PARTS)
        write_json(
            "metrics/predict.json",
            {"split": predict.split, "images": len(records), "foreground_fraction": foreground},
        )
    distributed.stop()
    return f"predict: {len(records):,} label maps to out/predictions.zip"


def _join(parts: Path, records: list[Record]) -> float:
    """Write the archives of all processes as one, in the manifest's order; returns the foreground's share of pixels."""
    where = {id: archive for archive in map(LabelArchive, sorted(parts.iterdir())) for id in archive.ids}
    foreground = pixels = 0
    with output("out/predictions.zip") as path, LabelArchiveWriter(path) as writer:
        for record in records:
            label = where[record.id].read(record.id)
            writer.write(record.id, label)
            foreground, pixels = foreground + np.count_nonzero(label), pixels + label.size
    return foreground / pixels


if __name__ == "__main__":
    main()
