from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from sfc.backbone import Trunk
from sfc.data.images import equal_sizes
from sfc.data.manifest import Record
from sfc.errors import UserError
from sfc.localization.multiscale import infer_cams

SCALES = (1.0, 0.5, 1.5)


class FakeNetwork:
    """Local means of the image, one a channel, with the labels and both flags added: easy to compute by hand."""

    kinds = ("classifier", "prototype")
    backbone = Trunk()  # for its mean and std

    def __init__(self):
        self.batches = []

    def infer(self, images, labels, *, flip, mask_absent):
        self.batches.append(images)
        assert images.dtype == torch.float32
        means = F.avg_pool2d(images, 16, ceil_mode=True).mean(1, keepdim=True).abs()
        channels = torch.cat([torch.ones(len(labels), 1), 2 + labels], 1)[:, :, None, None]
        number = torch.arange(1.0, 1 + channels.shape[1])[:, None, None]
        cams = means * channels * number + flip + 10 * mask_absent
        return torch.stack([cams, -cams], dim=1)


def _records(folder, sizes, labels=((0, 2), (1,), ())):
    rng = np.random.default_rng(0)
    records = []
    for i, (height, width) in enumerate(sizes):
        path = folder / f"im{i}.png"
        Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(path)
        records.append(Record(f"im{i}", "train", path, None, height, width, labels[i % len(labels)], "", "table"))
    return records


def _infer(shards, network=None, **options):
    plain = {"scales": SCALES, "flip": False, "mask_absent": False, "batch_size": 3, "precision": "fp32"}
    device = torch.device("cpu")
    options = {**plain, "num_classes": 3, "device": device, "workers": 0, **options}
    return dict(infer_cams(network or FakeNetwork(), shards, **options))


def test_batches_hold_one_size(tmp_path):
    records = _records(tmp_path, [(20, 30), (30, 20), (20, 30), (20, 30), (8, 8), (20, 30)])
    batches = [[record.id for record in batch] for batch in equal_sizes(records, 3)]
    assert batches == [["im0", "im2", "im3"], ["im5"], ["im1"], ["im4"]]


@pytest.mark.parametrize("flip", [False, True])
def test_maps_equal_one_image_at_a_time(tmp_path, flip):
    records = _records(tmp_path, [(40, 50), (50, 40), (40, 50), (3, 90), (1, 1)])
    maps = _infer([records], flip=flip)
    assert set(maps) == {record.id for record in records}
    for record in records:
        channels = [0, *(i + 1 for i in record.labels)]
        for scale, array in zip(SCALES, maps[record.id], strict=True):
            size = max(1, round(record.width * scale)), max(1, round(record.height * scale))
            with Image.open(record.image) as image:
                resized = np.asarray(image.resize(size, Image.Resampling.BICUBIC), dtype=np.float64) / 255
            resized = (resized - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
            for y, x in np.ndindex(*array.shape[2:]):
                mean = abs(resized[16 * y : 16 * y + 16, 16 * x : 16 * x + 16].mean())
                for channel, number in enumerate(channels):
                    expected = mean * (3 if channel else 1) * (number + 1) + flip
                    np.testing.assert_allclose(array[:, channel, y, x], [expected, -expected], rtol=1e-4, atol=1e-5)
            assert array.dtype == np.float32
            assert array.shape == (2, len(channels), -(-size[1] // 16), -(-size[0] // 16))


def test_options_reach_the_network(tmp_path):
    records = _records(tmp_path, [(16, 16)])
    plain, both = _infer([records]), _infer([records], flip=True, mask_absent=True)
    np.testing.assert_allclose(both["im0"][0][0], plain["im0"][0][0] + 11, rtol=1e-6)


def test_images_come_channels_last(tmp_path):
    network = FakeNetwork()
    _infer([_records(tmp_path, [(20, 30)] * 2)], network)
    assert len(network.batches) == len(SCALES)
    assert all(images.is_contiguous(memory_format=torch.channels_last) for images in network.batches)


def test_a_shard_does_not_depend_on_the_others(tmp_path):
    records = _records(tmp_path, [(20, 30), (30, 20), (20, 30), (20, 30), (20, 30)])
    shards = [records[:2], records[2:]]
    network = FakeNetwork()
    _infer(shards, network, scales=(1.0,))
    alone = FakeNetwork()
    _infer(shards[1:], alone, scales=(1.0,))
    assert [images.shape[0] for images in network.batches] == [1, 1, 3]
    assert torch.equal(network.batches[-1], alone.batches[0])


def test_workers_change_nothing(tmp_path):
    records = _records(tmp_path, [(20, 30), (30, 20), (20, 30)])
    here, there = _infer([records]), _infer([records], workers=2)
    assert list(here) == list(there)
    for id in here:
        for a, b in zip(here[id], there[id], strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_changed_or_missing_image_is_named_in_one_line(tmp_path, workers):
    (record,) = _records(tmp_path, [(20, 30)])
    Image.new("RGB", (30, 21)).save(record.image)
    with pytest.raises(UserError, match=r"^\S+im0\.png: 21 x 30 pixels, but the manifest says 20 x 30[^\n]*$"):
        _infer([[record]], workers=workers)
    record.image.unlink()
    with pytest.raises(UserError, match=r"^\S+im0\.png: no such file[^\n]*$"):
        _infer([[record]], workers=workers)


def _full_gpu():
    raise torch.OutOfMemoryError("no words that are known")


def _full_library():
    raise RuntimeError("std::bad_alloc")


@pytest.mark.parametrize("allocate", [lambda: torch.empty(1 << 58), _full_gpu, _full_library])
def test_too_little_memory_is_one_line(tmp_path, allocate):
    class Greedy(FakeNetwork):
        def infer(self, images, labels, *, flip, mask_absent):
            return allocate()

    message = r"^\S+im0\.png: a batch of 2 with 3 x 90 pixels does not fit in memory; lower cam\.batch_size[^\n]*$"
    with pytest.raises(UserError, match=message):
        _infer([_records(tmp_path, [(3, 90), (3, 90)])], Greedy())


def test_other_errors_of_the_network_stay_what_they_are(tmp_path):
    class Broken(FakeNetwork):
        def infer(self, images, labels, *, flip, mask_absent):
            raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        _infer([_records(tmp_path, [(3, 9)])], Broken())


def test_large_images_come_in_smaller_batches():
    def sizes(height, width, batch_size):
        records = [Record(str(i), "train", Path("x"), None, height, width, (0,), "hash", "table") for i in range(9)]
        return [len(batch) for batch in equal_sizes(records, batch_size)]

    assert sizes(640, 640, 4) == [4, 4, 1]
    assert sizes(640, 1280, 4) == [2, 2, 2, 2, 1]
    assert sizes(1000, 6000, 8) == [1] * 9
    assert sizes(1, 9, 16) == [9]
