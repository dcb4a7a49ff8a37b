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
    found, keys = labels(record), np.array(label_keys(record.labels))
    normalised = normalise_scales(labels.store.fused_of(record), (20, 26))
    for i, offset in enumerate(OFFSETS):
        measured = fuse(normalised, KINDS, **labels.measured, bg_offset=offset).numpy()
        np.testing.assert_array_equal(found.measured[i], keys[measured.argmax(0)])
        cams = fuse(normalised, KINDS, **labels.refined, bg_offset=offset).numpy()
        np.testing.assert_array_equal(found.start[i], keys[cams.argmax(0)])
        refined, _ = refine_cams(read_record(record), cams, keys, **labels.crf)
        np.testing.assert_array_equal(found.refined[i], refined)
    assert {maps.dtype for maps in (found.measured, found.start, found.refined)} == {np.dtype(np.uint8)}
    assert (found.measured != found.start).any()
    assert (found.refined != found.start).any()


def test_equal_labels_are_refined_once(tiny, monkeypatch):
    runs, infer = [], DenseCrf.infer
    monkeypatch.setattr(DenseCrf, "infer", lambda *args: runs.append(1) or infer(*args))
    labels = tiny.labels(offsets=[5.0, 6.0, 7.0])  # above the foreground's maximum: background everywhere
    assert not labels(tiny.records[0]).refined.any()
    assert len(runs) == 1


def test_an_image_without_a_class_is_background(tiny):
    found = tiny.labels()(tiny.records[2])
    for maps in (found.measured, found.start, found.refined):
        assert maps.shape == (4, 20, 26)
        assert not maps.any()


def test_it_can_be_sent_to_other_processes(tiny):
    labels = tiny.labels()
    expected = labels(tiny.records[1])
    found = pickle.loads(pickle.dumps(labels))(tiny.records[1])
    np.testing.assert_array_equal(found.refined, expected.refined)
