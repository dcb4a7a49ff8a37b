from dataclasses import replace

import pytest

from sfc.data.manifest import Manifest
from sfc.errors import UserError
from sfc.evaluation.coverage import covered_splits


def ids(records):
    return [record.id for record in records]


@pytest.fixture
def manifest(tiny):
    val = tiny.more(split="val")
    val[1] = replace(val[1], mask=None)
    return Manifest((*val, *tiny.records), tiny.manifest.classes)


def test_splits_in_order_with_their_records(tiny, manifest):
    every = covered_splits(manifest, ids(manifest.records), "out/cams")
    assert list(every) == ["train", "val"]
    assert every["train"] == tiny.records
    assert list(covered_splits(manifest, ids(tiny.records), "out/cams")) == ["train"]


def test_images_without_mask_may_be_missing(manifest):
    assert len(covered_splits(manifest, ["val0", "val2", "val3", "val4"], "x")["val"]) == 4


@pytest.mark.parametrize(
    ("present", "message"),
    [
        ([], "out/crf.zip: holds no image"),
        (["train0", "other"], "image other is not in the manifest"),
        (["train0", "train1", "train2", "train4"], "covers split train but not its image train3"),
    ],
)
def test_what_cannot_be_measured_fairly_is_refused(manifest, present, message):
    with pytest.raises(UserError, match=message):
        covered_splits(manifest, present, "out/crf.zip")
