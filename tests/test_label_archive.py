import io
import multiprocessing
import os
import pickle
import time
import tracemalloc
import zipfile

import numpy as np
import pytest
from PIL import Image

from sfc.data.images import voc_palette
from sfc.errors import UserError
from sfc.label_archive import LabelArchive, LabelArchiveWriter


def _labels(count=4):
    rng = np.random.default_rng(0)
    return {f"im{i}": rng.integers(0, 256, (5 + i, 7), dtype=np.uint8) for i in range(count)}


def _write(path, labels):
    with LabelArchiveWriter(path) as archive:
        for id, label in labels.items():
            archive.write(id, label)
    return path


def test_every_label_comes_back_in_the_order_of_writing(tmp_path):
    labels = dict(reversed(_labels().items()))
    archive = LabelArchive(_write(tmp_path / "a.zip", labels))
    assert archive.ids == tuple(labels)
    for id, label in labels.items():
        read = archive.read(id)
        assert read.dtype == np.uint8
        np.testing.assert_array_equal(read, label)
        read[0, 0] = 1  # the caller owns it


def test_bytes_do_not_depend_on_the_time(tmp_path, monkeypatch):
    first = _write(tmp_path / "a.zip", _labels()).read_bytes()
    monkeypatch.setattr(time, "time", lambda: 2e9)
    assert _write(tmp_path / "b.zip", _labels()).read_bytes() == first


def test_entries_are_stored_palette_images(tmp_path):
    path = _write(tmp_path / "a.zip", _labels(1))
    with zipfile.ZipFile(path) as archive:
        (info,) = archive.infolist()
        assert (info.filename, info.compress_type) == ("im0.png", zipfile.ZIP_STORED)
        image = Image.open(io.BytesIO(archive.read(info)))
        assert image.mode == "P"
        np.testing.assert_array_equal(np.reshape(image.getpalette(), (-1, 3)), voc_palette())


def test_palette_is_the_voc_colour_map():
    palette = voc_palette()
    for label in range(256):
        rgb, rest = [0, 0, 0], label
        for level in range(8):
            for channel in range(3):
                rgb[channel] |= (rest >> channel & 1) << (7 - level)
            rest >>= 3
        assert palette[label].tolist() == rgb
    assert palette[1].tolist() == [128, 0, 0]  # aeroplane's colour


def test_reads_in_a_forked_process_and_after_pickling(tmp_path):
    labels = _labels(8)
    archive = LabelArchive(_write(tmp_path / "a.zip", labels))
    archive.read("im0")
    with multiprocessing.get_context("fork").Pool(2) as pool:
        for id, label in zip(labels, pool.map(archive.read, labels, chunksize=1), strict=True):
            np.testing.assert_array_equal(label, labels[id])
    copy = pickle.loads(pickle.dumps(archive))
    np.testing.assert_array_equal(copy.read("im1"), labels["im1"])


def test_forked_child_has_a_file_of_its_own(tmp_path):
    archive = LabelArchive(_write(tmp_path / "a.zip", _labels()))
    opened = archive._zip._open()
    pid = os.fork()
    if pid == 0:
        os._exit(0 if archive._zip._open() is not opened else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert archive._zip._open() is opened


def test_what_cannot_be_read_is_named(tmp_path):
    path = _write(tmp_path / "a.zip", _labels())
    with pytest.raises(UserError, match=r"a\.zip: no label map of image nosuch"):
        LabelArchive(path).read("nosuch")
    with pytest.raises(UserError, match=r"none\.zip: no such file"):
        LabelArchive(tmp_path / "none.zip")
    (tmp_path / "bad.zip").write_bytes(b"no zip")
    with pytest.raises(UserError, match=r"bad\.zip: not a zip"):
        LabelArchive(tmp_path / "bad.zip")
    path.write_bytes(path.read_bytes().replace(b"IDAT", b"XXXX", 1))
    with pytest.raises(UserError, match=r"image im0 is damaged"):
        LabelArchive(path).read("im0")


def test_flipped_bits_are_seen_or_harmless(tmp_path):
    labels = {"a": np.arange(12, dtype=np.uint8).reshape(3, 4), "b": np.zeros((2, 2), np.uint8)}
    path = _write(tmp_path / "a.zip", labels)
    whole = path.read_bytes()
    seen = []
    for place in range(0, len(whole) * 8, 11):
        damaged = bytearray(whole)
        damaged[place // 8] ^= 1 << place % 8
        path.write_bytes(damaged)
        try:
            archive = LabelArchive(path)
            for id, label in labels.items():
                np.testing.assert_array_equal(archive.read(id), label)
        except UserError as error:
            seen.append(str(error))
    assert len(seen) > len(whole) * 8 / 11 * 0.75
    assert all(message.startswith(f"{path}: ") for message in seen)


def test_no_flipped_bit_takes_entries_away_unseen(tmp_path):
    """A row of the list at its end that claims to be longer swallows the next ones, a name like another one its own."""
    labels = _labels(6)
    path = _write(tmp_path / "a.zip", labels)
    whole = path.read_bytes()
    for place in range(whole.index(b"PK\1\2") * 8, len(whole) * 8):
        damaged = bytearray(whole)
        damaged[place // 8] ^= 1 << place % 8
        path.write_bytes(damaged)
        try:
            archive = LabelArchive(path)
            found = {id: archive.read(id) for id in archive.ids}
        except UserError:
            continue
        assert found.keys() == labels.keys(), place


def test_what_would_unpack_to_gigabytes_is_not_unpacked(tmp_path, monkeypatch):
    """A deflated entry can be a thousand times as large when it is read; label maps are stored as they are."""
    monkeypatch.setattr("sfc.label_archive.MOST", 1 << 20)
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a.png", bytes(1 << 24))
    archive = LabelArchive(path)
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match=r"a\.png would unpack to 16,777,216 bytes, above 1,048,576"):
            archive.read("a")
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_a_lack_of_memory_is_no_damage(tmp_path, monkeypatch):
    archive = LabelArchive(_write(tmp_path / "a.zip", _labels()))
    monkeypatch.setattr(Image, "open", lambda *_, **__: (_ for _ in ()).throw(MemoryError))
    with pytest.raises(MemoryError):
        archive.read("im0")


def test_a_wrong_array_is_refused(tmp_path):
    with LabelArchiveWriter(tmp_path / "a.zip") as archive, pytest.raises(ValueError, match="uint8"):
        archive.write("a", np.zeros((2, 2), dtype=np.int64))


def test_the_number_of_entries_is_checked_beyond_what_the_end_record_holds(tmp_path):
    path, label = tmp_path / "many.zip", io.BytesIO()
    Image.fromarray(np.zeros((1, 1), np.uint8), "P").save(label, "PNG")
    names = [f"{number:05d}.png" for number in range(1 << 16)]
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, label.getvalue())
    assert len(LabelArchive(path).ids) == len(names)
    whole = path.read_bytes()
    last = whole.rindex(b"65535.png")
    path.write_bytes(whole[:last] + b"65534.png" + whole[last + 9 :])
    with pytest.raises(UserError, match="an image comes twice; make the file again"):
        LabelArchive(path)
    total = whole.rindex(b"PK\6\6") + 32
    path.write_bytes(whole[:total] + (1 << 17).to_bytes(8, "little") + whole[total + 8 :])
    with pytest.raises(UserError, match="not a zip archive of label maps"):
        LabelArchive(path)
