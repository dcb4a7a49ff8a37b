"""Whole-image inference: any size, the same labels however images are grouped, the CRF in worker processes."""

import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from sfc.data.images import equal_sizes
from sfc.data.manifest import Record
from sfc.data.read_ahead import read_scaled
from sfc.dense_crf import crf_probabilities
from sfc.errors import UserError
from sfc.segmentation.deeplab import DeepLabV2
from sfc.segmentation.inference import image_logits, predict_labels, ready_segmenter
from sfc.segmentation.wide_resnet import WideResNet38

CRF = {
    "iterations": 2,
    "gaussian_sxy": 1.0,
    "gaussian_compat": 3.0,
    "bilateral_sxy": 10.0,
    "bilateral_srgb": 3.0,
    "bilateral_compat": 4.0,
}


def make(image_scale=1.0):
    torch.manual_seed(1)
    network = DeepLabV2(arch="resnet18", num_classes=4, atrous_rates=(1, 2), image_scale=image_scale)
    torch.nn.init.normal_(network.aspp.branches[0].weight, std=0.3)  # so that no pixel is a near tie
    return network.eval()


@pytest.fixture
def records(tmp_path):
    """Images of four sizes, one of them one pixel high, one a single pixel; two sizes occur more than once."""
    rng = np.random.default_rng(0)
    found = []
    for number, (height, width) in enumerate([(23, 37), (16, 16), (23, 37), (1, 19), (1, 1), (16, 16), (23, 37)]):
        path = tmp_path / f"{number}.png"
        Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(path)
        found.append(
            Record(
                id=f"image{number}",
                split="val",
                image=path,
                mask=None,
                height=height,
                width=width,
                labels=(),
                image_hash="",
                label_source="table",
            )
        )
    return found


def run(network, records, *, batch_size=8, **options):
    options = {"scales": (1.0, 0.5), "merge": "max", "flip": True, "precision": "fp32", **options}
    options = {"crf": None, "workers": 2, **options}
    batches = equal_sizes(records, batch_size)
    return dict(predict_labels(network, batches, device=torch.device("cpu"), **options))


def test_batches_are_of_equal_size_and_hold_every_image_once(records):
    batches = equal_sizes(records, 2)
    assert [[r.id[-1] for r in batch] for batch in batches] == [["0", "2"], ["6"], ["1", "5"], ["3"], ["4"]]


@pytest.mark.parametrize("image_scale", [1.0, 0.5])
def test_labels_have_the_size_of_their_image(records, image_scale):
    labels = run(make(image_scale), records)
    assert sorted(labels) == [r.id for r in records]
    for record in records:
        assert labels[record.id].dtype == np.uint8
        assert labels[record.id].shape == (record.height, record.width)
        assert labels[record.id].max() < 4
    assert len(np.unique(labels["image0"])) > 1


def test_grouping_does_not_change_labels(records):
    network = make()
    together, alone = run(network, records), run(network, records, batch_size=1)
    for id, label in together.items():
        np.testing.assert_array_equal(label, alone[id])


def test_processes_share_batches_without_changing_labels(records):
    network, batches = make(), equal_sizes(records, 2)
    whole = run(network, records, batch_size=2, precision="bf16")
    options = {"scales": (1.0, 0.5), "merge": "max", "flip": True, "precision": "bf16", "crf": None, "workers": 1}
    for rank in range(2):
        for id, label in predict_labels(network, batches[rank::2], device=torch.device("cpu"), **options):
            np.testing.assert_array_equal(label, whole[id])


def test_logits_step_by_step(records):
    """Scales, maximum, mirror average and full-size labels against one plain run of the network after another."""
    network, record = make(), records[0]
    (images,) = read_scaled([record], [1.0])
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    total = 0
    for mirror in (False, True):
        whole = (images / 255 - mean) / std
        whole = whole.flip(3) if mirror else whole
        half = F.interpolate(whole, size=(11, 18), mode="bilinear", align_corners=False)
        with torch.no_grad():
            large, small = network(whole), network(half)
        merged = torch.maximum(large, F.interpolate(small, size=(3, 5), mode="bilinear", align_corners=False))
        total = total + (merged.flip(3) if mirror else merged)
    found = image_logits(network, images, scales=(0.5, 1.0), merge="max", flip=True)
    torch.testing.assert_close(found, total / 2, rtol=1e-4, atol=1e-4)
    label = F.interpolate(total, size=(23, 37), mode="bilinear", align_corners=False).argmax(1)[0]
    np.testing.assert_array_equal(run(network, [record])[record.id], label.numpy())


def trained():
    """`make`, with statistics in its batch norms that folding must not lose."""
    network = make()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(std=0.2)
            module.running_var.uniform_(0.5, 2.0)
    return network


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_ready_network_gives_the_same_logits(records, precision):
    """In bf16 it is no further from float64 than autocast of the network as it was."""
    (images,) = read_scaled(records[:1], [1.0])
    how = {"scales": (0.5, 1.0), "merge": "max", "flip": True}
    found = []
    for network in (trained(), ready_segmenter(trained(), precision=precision)):
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            found.append(image_logits(network, images, **how).float())
    plain, fast = found
    reference = image_logits(trained(), images, **how)
    if precision == "fp32":
        torch.testing.assert_close(fast, plain, rtol=1e-4, atol=1e-4)
    else:
        assert (fast - reference).abs().mean() < 1.2 * (plain - reference).abs().mean()


def test_only_a_resnet_whose_batch_norms_were_folded_becomes_bf16():
    network = ready_segmenter(make(), precision="bf16")
    assert not [module for module in network.backbone.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert {value.dtype for value in network.backbone.parameters()} == {torch.bfloat16}
    assert {value.dtype for value in network.aspp.parameters()} == {torch.float32}
    other = make()
    other.backbone = WideResNet38(frozen_stages=0, batch_norm="frozen", width=4)
    assert {value.dtype for value in ready_segmenter(other, precision="bf16").parameters()} == {torch.float32}


def test_mirrored_image_gives_mirrored_logits(records):
    network = make()
    (images,) = read_scaled(records[1:2], [1.0])
    found = [image_logits(network, x, scales=(1.0,), merge="max", flip=True) for x in (images, images.flip(3))]
    torch.testing.assert_close(found[0], found[1].flip(3), rtol=1e-4, atol=1e-4)


def test_crf_sharpens_the_full_size_probabilities(records):
    network, record = make(), records[0]
    (images,) = read_scaled([record], [1.0])
    logits = image_logits(network, images, scales=(1.0,), merge="max", flip=False)
    probabilities = F.interpolate(logits, size=(23, 37), mode="bilinear", align_corners=False).softmax(1)[0].numpy()
    expected = crf_probabilities(np.array(Image.open(record.image)), probabilities, **CRF).argmax(0)
    found = run(network, records, scales=(1.0,), flip=False, crf=CRF)
    assert list(found) == [r.id for batch in equal_sizes(records, 8) for r in batch]
    assert (found[record.id] != expected).mean() < 0.01
    assert found["image4"].shape == (1, 1)


@pytest.mark.parametrize("crf", [None, CRF])
def test_known_classes_alone_are_chosen(records, crf):
    network = make()
    records = [
        dataclasses.replace(r, labels=labels) for r, labels in zip(records, [(2,), (0, 2), (), (1,)], strict=False)
    ]
    found = run(network, records, scales=(1.0,), flip=False, crf=crf, known=True)
    assert len(np.unique(run(network, records, scales=(1.0,), flip=False)["image0"])) > 2
    for record in records:
        values = [0, *(label + 1 for label in record.labels)]
        (images,) = read_scaled([record], [1.0])
        logits = image_logits(network, images, scales=(1.0,), merge="max", flip=False)
        full = F.interpolate(logits, size=images.shape[2:], mode="bilinear", align_corners=False)[0, values]
        if crf is not None:
            probabilities = crf_probabilities(np.array(Image.open(record.image)), full.softmax(0).numpy(), **crf)
            full = torch.from_numpy(probabilities)
        np.testing.assert_array_equal(found[record.id], np.array(values)[full.argmax(0)])


def test_images_that_cannot_be_done_are_told_and_left_out(records, monkeypatch):
    wanted = run(make(), records, batch_size=1)
    records[1].image.write_bytes(b"no image")
    told = []
    network = make()

    def forward(images, plain=network.forward):
        if images.shape[2:] == (1, 1):
            raise torch.OutOfMemoryError("CUDA out of memory")
        return plain(images)

    monkeypatch.setattr(network, "forward", forward)
    found = run(network, records, batch_size=1, broken=lambda record, error: told.append((record.id, str(error))))
    assert [id for id, _ in told] == ["image1", "image4"]
    assert "4.png: a batch of 1 with 1 x 1 pixels does not fit in memory; lower predict.batch_size" in told[1][1]
    assert sorted(found) == ["image0", "image2", "image3", "image5", "image6"]
    for id, label in found.items():
        np.testing.assert_array_equal(label, wanted[id])
    with pytest.raises(UserError, match="does not fit in memory"):
        run(network, records[4:5])


def test_changed_image_is_named(records):
    Image.new("RGB", (5, 4)).save(records[1].image)
    with pytest.raises(UserError, match=r"1\.png: 4 x 5 pixels, but the manifest says 16 x 16"):
        run(make(), records)
