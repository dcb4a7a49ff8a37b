import pickle

import numpy as np
import pytest

from sfc.data.images import read_record
from sfc.data.manifest import label_keys
from sfc.dense_crf import DenseCrf, refine_cams
from sfc.fusion import fuse, normalise_scales
from tests.offsets.conftest import CRF, KINDS, OFFSETS


@pytest.mark.parametrize("mode", ["label", "prob"])
@pytest.mark.parametrize("number", [0, 1])
def test_every_offset_gives_what_the_stages_give(tiny, mode, number):
    labels, record = tiny.labels(crf=CRF | {"mode": mode}), tiny.records[number]
    cams, crf, keys = labels.of_cams(record), labels.of_crf(record), np.array(label_keys(record.labels))
    normalised = normalise_scales(labels.store.fused_of(record), (20, 26))
    for i, offset in enumerate(OFFSETS):
        measured = fuse(normalised, KINDS, **labels.measured, bg_offset=offset).numpy()
        np.testing.assert_array_equal(cams[i], keys[measured.argmax(0)])
        start = fuse(normalised, KINDS, **labels.refined, bg_offset=offset).numpy()
        refined, _ = refine_cams(read_record(record), start, keys, **labels.crf)
        np.testing.assert_array_equal(crf[i], refined)
    assert cams.dtype == crf.dtype == np.uint8
    assert (cams != crf).any()


def test_equal_labels_are_refined_once(tiny, monkeypatch):
    runs, infer = [], DenseCrf.infer
    monkeypatch.setattr(DenseCrf, "infer", lambda *args: runs.append(1) or infer(*args))
    labels = tiny.labels(offsets=[5.0, 6.0, 7.0])  # above the foreground's maximum: background everywhere
    assert not labels.of_crf(tiny.records[0]).any()
    assert len(runs) == 1


def test_an_image_without_a_class_is_background(tiny):
    for maps in (tiny.labels().of_cams(tiny.records[2]), tiny.labels().of_crf(tiny.records[2])):
        assert maps.shape == (4, 20, 26)
        assert not maps.any()


def test_it_can_be_sent_to_other_processes(tiny):
    labels = tiny.labels()
    expected = labels.of_crf(tiny.records[1])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(labels)).of_crf(tiny.records[1]), expected)
