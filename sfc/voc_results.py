"""Predictions as the PASCAL VOC server takes them: a tar.gz of palette PNGs, equal bytes for equal labels."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from sfc.data.images import palette_png
from sfc.data.manifest import Record
from sfc.errors import UserError
from sfc.label_archive import LabelArchive

# VOC 2012 development kit: segmentation, competition 6 (trained on other data too: an ImageNet trunk is), test images
FOLDER = "results/VOC2012/Segmentation/comp6_test_cls"


def write_voc_results(
    path: Path | str, archive: LabelArchive, records: Sequence[Record], num_classes: int
) -> Iterable[str]:
    """Write FOLDER/ID.png for every record, in the order of their ids; a generator of the ids as they are written.

    Nothing but the label maps is in the bytes: times, owners and the file's own name are left out.

    Args:
        archive: predictions, checked before anything is written.
        records: the images of the test split.
        num_classes: foreground classes.

    Raises:
        UserError: predictions that are not those of exactly these images, or one of another size than its image or
            with a value that is no class.
    """
    wanted, found = {record.id for record in records}, set(archive.ids)
    if wanted != found:
        lacking, others = sorted(wanted - found), sorted(found - wanted)
        what = f"lacks test image {lacking[0]}" if lacking else f"holds {others[0]}, which is no test image"
        raise UserError(
            f"{archive.path}: {what} ({len(lacking)} lacking, {len(others)} others); "
            "set predict.split to test and run dvc repro predict"
        )
    with (
        open(path, "wb") as file,
        gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as tar,
    ):
        for record in sorted(records, key=lambda record: record.id):
            png = palette_png(_checked(archive, record, num_classes))
            entry = tarfile.TarInfo(f"{FOLDER}/{record.id}.png")  # its time is 0, its owner nobody
            entry.size = len(png)
            tar.addfile(entry, io.BytesIO(png))
            yield record.id


def _checked(archive: LabelArchive, record: Record, num_classes: int) -> np.ndarray:
    label = archive.read(record.id)
    if label.shape != (record.height, record.width):
        found, wanted = f"{label.shape[0]}x{label.shape[1]}", f"{record.height}x{record.width}"
        raise UserError(f"{archive.path}: {record.id} is {found}, its image {wanted}; run the stage predict again")
    if label.max() > num_classes:
        raise UserError(f"{archive.path}: {record.id} has the value {label.max()}, no class; run predict again")
    return label
