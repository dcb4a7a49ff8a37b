import json
import multiprocessing
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from sfc.data.manifest import Record
from sfc.errors import UserError
from sfc.localization import store
from sfc.localization.store import CamStore, CamWriter, empty_maps

KINDS, SCALES = ("classifier", "prototype"), (1.0, 0.5)


def _maps(count=5):
    rng = np.random.default_rng(0)
    return {
        f"im{i}": [rng.random((2, 2 + i % 3, 3 + i, 4), dtype=np.float32), rng.random((2, 2 + i % 3, 2, 2)).astype("f")]
        for i in range(count)
    }


def _record(id, classes):
    return Record(id, "train", Path("a.png"), None, 1, 1, tuple(range(classes)), "", "table")


def _write(folder, maps, order=None, fused=KINDS):
    folder.mkdir()
    writer = CamWriter(folder, kinds=KINDS, fused=fused, scales=SCALES, ids=list(maps))
    for id in order or maps:
        writer.write(id, maps[id])
    writer.finish()
    return folder


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr(store, "SHARD", 2)


def test_every_map_comes_back(tmp_path, small_shards):
    maps = _maps()
    cams = CamStore(_write(tmp_path / "cams", maps))
    assert (cams.kinds, cams.scales, cams.ids) == (KINDS, SCALES, tuple(maps))
    assert len(list((tmp_path / "cams").glob("*.safetensors"))) == 3
    for id in reversed(maps):
        for read, written in zip(cams.read(id), maps[id], strict=True):
            assert read.dtype == np.float32
            np.testing.assert_array_equal(read, written)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="this system does not tell what is mapped")
@pytest.mark.parametrize("shuffled", [False, True])
def test_few_shards_are_open_at_once(tmp_path, small_shards, shuffled):
    maps = _maps(60)
    folder = _write(tmp_path / "cams", maps)
    found, ids = CamStore(folder), list(maps)
    if shuffled:
        np.random.default_rng(0).shuffle(ids)
    for id in ids:
        np.testing.assert_array_equal(found.read(id)[1], maps[id][1])
    mapped = {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if str(folder) in line}
    assert 0 < len(mapped) <= store.OPEN < 30


def test_threads_share_a_store(tmp_path, small_shards):
    maps = _maps(60)
    found = CamStore(_write(tmp_path / "cams", maps))
    with ThreadPoolExecutor(4) as pool:
        for id, read in zip([*maps] * 5, pool.map(found.read, [*maps] * 5), strict=True):
            np.testing.assert_array_equal(read[0], maps[id][0])


def test_bytes_do_not_depend_on_the_order_of_writing(tmp_path, small_shards):
    maps = _maps()
    a, b = _write(tmp_path / "a", maps), _write(tmp_path / "b", maps, order=["im4", "im3", "im0", "im2", "im1"])
    files = sorted(p.name for p in a.iterdir())
    assert files == sorted(p.name for p in b.iterdir())
    assert all((a / name).read_bytes() == (b / name).read_bytes() for name in files)


def test_a_strided_view_is_stored_as_it_looks(tmp_path):
    maps = {"a": [np.arange(48, dtype=np.float32).reshape(4, 3, 2, 2).transpose(3, 1, 0, 2)] * 2}
    np.testing.assert_array_equal(CamStore(_write(tmp_path / "cams", maps)).read("a")[1], maps["a"][1])


def test_reads_in_other_processes(tmp_path, small_shards):
    maps = _maps()
    cams = CamStore(_write(tmp_path / "cams", maps))
    cams.read("im0")
    with multiprocessing.get_context("fork").Pool(2) as pool:
        for id, read in zip(maps, pool.map(cams.read, maps, chunksize=1), strict=True):
            np.testing.assert_array_equal(read[0], maps[id][0])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(cams)).read("im3")[0], maps["im3"][0])


def test_what_cannot_be_read_is_named(tmp_path):
    folder = _write(tmp_path / "cams", _maps())
    with pytest.raises(UserError, match="no CAM of image nosuch"):
        CamStore(folder).read("nosuch")
    with pytest.raises(UserError, match="no CAMs here"):
        CamStore(tmp_path / "none")
    (folder / "00000.safetensors").unlink()
    with pytest.raises(UserError, match=r"00000\.safetensors: cannot read image im0"):
        CamStore(folder).read("im0")


def test_maps_of_another_number_of_classes_are_refused(tmp_path):
    cams = CamStore(_write(tmp_path / "cams", _maps()))
    for read in (cams.maps_of, cams.fused_of):
        with pytest.raises(UserError, match=r"cams: im1 has 2 class maps but 3 labels in the manifest; run infer_cam"):
            read(_record("im1", 3))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "null",
        "[]",
        '"kinds"',
        '{"kinds": ["a"], "fused": ["a"], "scales": [1.0]}',
        '{"kinds": ["a"], "scales": [1.0], "ids": []}',
        '{"kinds": "a", "fused": ["a"], "scales": [1.0], "ids": []}',
        '{"kinds": ["a"], "fused": ["a"], "scales": [null], "ids": []}',
        '{"kinds": [], "fused": [], "scales": [1.0], "ids": []}',
        '{"kinds": ["a"], "fused": ["a"], "scales": [1.0], "ids": [1]}',
        '{"kinds": ["a"], "fused": ["b"], "scales": [1.0], "ids": []}',
        '{"kinds": ["a"], "fused": [["a"]], "scales": [1.0], "ids": []}',
        "\xff",
    ],
)
def test_a_damaged_index_is_named(tmp_path, text):
    (tmp_path / "index.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=rf"^{tmp_path}/index\.json: [^\n]+; run infer_cam again$"):
        CamStore(tmp_path)


def test_an_index_of_other_maps_is_seen(tmp_path):
    folder = _write(tmp_path / "cams", _maps())
    index = json.loads((folder / "index.json").read_text())
    (folder / "index.json").write_text(json.dumps(index | {"kinds": ["classifier"], "fused": ["classifier"]}))
    with pytest.raises(
        UserError, match=r"00000\.safetensors: cannot read image im0 \(maps of another form .*run infer_cam"
    ):
        CamStore(folder).read("im0")


@pytest.mark.parametrize(
    "maps", [[np.zeros((2, 2, 1, 1), "f")], [np.zeros((1, 2, 1, 1), "f")] * 2, [np.zeros((2, 2, 1, 1))] * 2]
)
def test_wrong_maps_are_refused(tmp_path, maps):
    writer = CamWriter(tmp_path, kinds=KINDS, fused=KINDS, scales=SCALES, ids=["a"])
    with pytest.raises(ValueError, match=r"^a: "):
        writer.write("a", maps)


def test_empty_maps_are_counted_by_kind(tmp_path):
    maps = _maps(3)  # with 1, 2 and 3 classes
    maps["im0"][0][1, 0] = maps["im0"][1][1, 0] = 0  # prototype, background, at both scales
    maps["im1"][0][1, 2] = maps["im1"][1][1, 2] = 0  # prototype, a class
    maps["im2"][0][0, 1] = 0  # at one scale only: not empty
    empty = empty_maps(CamStore(_write(tmp_path / "cams", maps)))
    assert empty == {
        "classifier": {"background": 0.0, "classes": 0.0},
        "prototype": {"background": pytest.approx(1 / 3), "classes": pytest.approx(1 / 6)},
    }


def test_the_kinds_that_stand_for_a_method_are_read_alone(tmp_path):
    maps = _maps()
    cams = CamStore(_write(tmp_path / "all", maps))
    assert cams.fused == KINDS
    np.testing.assert_array_equal(cams.fused_of(_record("im1", 2))[0], maps["im1"][0])
    cams = CamStore(_write(tmp_path / "one", maps, fused=("prototype",)))
    assert (cams.kinds, cams.fused) == (KINDS, ("prototype",))
    for id, arrays in maps.items():
        record = _record(id, arrays[0].shape[1] - 1)
        for found, whole, array in zip(cams.fused_of(record), cams.maps_of(record), arrays, strict=True):
            np.testing.assert_array_equal(found, array[1:])
            np.testing.assert_array_equal(whole, array)
