"""A data set of a few tiny images with masks and raw CAMs."""

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from sfc.data.manifest import Manifest, Record
from sfc.localization.store import CamStore, CamWriter

CLASSES = ("ant", "bee", "cat")
LABELS = ((0,), (0, 2), (), (0, 1, 2), (1,))


def make_records(folder, *, split="train", masks=True):
    rng = np.random.default_rng(5)
    records = []
    for i, labels in enumerate(LABELS):
        height, width = 20 + 4 * i, 30 - 2 * i
        image, mask = folder / f"{split}{i}.jpg", folder / f"{split}{i}.png"
        Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8)).save(image)
        values = np.array([0, 255, *(label + 1 for label in labels)], np.uint8)
        Image.fromarray(rng.choice(values, (height, width))).save(mask)
        records.append(
            Record(f"{split}{i}", split, image, mask if masks else None, height, width, labels, "hash", "masks")
        )
    return records


def make_store(folder, records, kinds, fused=None):
    rng = np.random.default_rng(6)
    folder.mkdir()
    ids = [record.id for record in records]
    writer = CamWriter(folder, kinds=kinds, scales=(1.0, 0.5), ids=ids, fused=fused or kinds)
    shapes = [(3, 4), (2, 2)]
    for r in records:
        writer.write(r.id, [rng.random((len(kinds), 1 + len(r.labels), *s), np.float32) for s in shapes])
    writer.finish()
    return CamStore(folder)


@pytest.fixture
def tiny(tmp_path):
    records = make_records(tmp_path)
    return SimpleNamespace(
        folder=tmp_path,
        records=records,
        manifest=Manifest(tuple(records), CLASSES),
        store=lambda kinds=("classifier", "prototype"), fused=None: make_store(
            tmp_path / "-".join(kinds), records, kinds, fused
        ),
        more=lambda **options: make_records(tmp_path, **options),
    )
