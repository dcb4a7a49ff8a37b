"""Two images with raw CAMs of two kinds."""

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from sfc.data.manifest import Record
from sfc.localization.store import CamStore, CamWriter
from sfc.offsets.labels import OffsetLabels

CRF = {
    "mode": "label",
    "iterations": 3,
    "gt_prob": 0.7,
    "gaussian_sxy": 3.0,
    "gaussian_compat": 3.0,
    "bilateral_sxy": 10.0,
    "bilateral_srgb": 13.0,
    "bilateral_compat": 10.0,
    "confident_bg_scale": 0.5,
}
OFFSETS = [0.0, 0.3, 0.6, 1.9]
KINDS = ("classifier", "prototype")


@pytest.fixture
def tiny(tmp_path):
    """`records`, and `labels(**changes)`, an `OffsetLabels` of them."""
    pytest.importorskip("pydensecrf")
    rng, records = np.random.default_rng(3), []
    (tmp_path / "cams").mkdir()
    writer = CamWriter(tmp_path / "cams", kinds=KINDS, fused=KINDS, scales=(1.0, 0.5), ids=["a", "b", "none"])
    for id, labels in (("a", (0,)), ("b", (1, 2)), ("none", ())):
        Image.fromarray(rng.integers(0, 256, (20, 26, 3), dtype=np.uint8)).save(tmp_path / f"{id}.png")
        records.append(Record(id, "train", tmp_path / f"{id}.png", None, 20, 26, labels, "", "table"))
        writer.write(id, [rng.random((2, 1 + len(labels), n, n), dtype=np.float32) for n in (4, 2)])
    writer.finish()
    settings = {
        "offsets": OFFSETS,
        "measured": {"weights": {"classifier": 1.0, "prototype": 1.0}, "fg_gain": 2.0},
        "refined": {"weights": {"classifier": 1.0, "prototype": 0.7}, "fg_gain": 1.5},
        "crf": CRF,
    }
    return SimpleNamespace(
        records=records, labels=lambda **changes: OffsetLabels(CamStore(tmp_path / "cams"), **settings | changes)
    )
