"""Images of one pixel's height, of a single pixel and panoramas through all that looks at whole images and crops."""

import dataclasses

import numpy as np
import pytest
import torch

from sfc.data.crops import ImageCrops, LabelledCrops
from sfc.fusion import fuse, normalise_scales
from sfc.irn.network import IrnNetwork
from sfc.localization.multiscale import infer_cams
from sfc.segmentation.deeplab import DeepLabV2
from sfc.segmentation.inference import predict_labels
from sfc.walk.walk_labels import walk_labels
from tests.data.folder import records
from tests.methods.tiny import network

CPU, CROP = torch.device("cpu"), 32
SIZES = [(1, 40), (40, 1), (1, 1), (2, 6000)]
WALK = {"radius": 3, "beta": 10, "steps": 4, "foreground_power": 1.0, "background": 0.1, "whole_power": 1.0}
FUSION = {"weights": {"classifier": 1.0, "prototype": 1.0}, "fg_gain": 1.0, "bg_offset": 0.1}


@pytest.fixture
def images(tmp_path):
    return [dataclasses.replace(r, labels=r.labels[:1]) for r in records(tmp_path, SIZES)]


def inside(sample):
    top, left, bottom, right = sample["box"].tolist()
    assert 0 <= top < bottom <= CROP
    assert 0 <= left < right <= CROP
    return sample["image"][:, top:bottom, left:right]


def test_crops(images):
    seen = ImageCrops(images, 3, crop=CROP, long_side=(16, 48), seed=0)
    options = {"crop": CROP, "rescale": (0.25, 1.5), "uniform": True, "image_scale": 0.5, "hsv_jitter": 10, "seed": 0}
    labelled = LabelledCrops(images, lambda r: np.full((r.height, r.width), 7, np.uint8), **options)
    for index in range(len(images)):
        for epoch in range(4):
            assert inside(seen[index, epoch]).numel() > 0
            sample = labelled[index, epoch]
            pixels = inside(sample)
            assert (sample["mask"] == 7).sum() == pixels[0].numel()


def test_cams_and_their_labels_by_random_walk(images):
    options = {"num_classes": 3, "scales": (1.0, 0.5, 1.5, 2.0), "flip": True, "mask_absent": False, "batch_size": 2}
    images = [record for record in images if record.width < 6000]
    cams = dict(infer_cams(network().eval(), [images], precision="fp32", device=CPU, workers=0, **options))
    irn = IrnNetwork(arch="resnet18").eval()
    for record in images:
        for scale, maps in zip(options["scales"], cams[record.id], strict=True):
            sides = [max(1, round(side * scale)) for side in (record.height, record.width)]
            assert maps.shape == (2, 1 + len(record.labels), *(-(-side // 16) for side in sides))
            assert np.isfinite(maps).all()
        size = (record.height, record.width)
        fused = fuse(normalise_scales(cams[record.id], size), tuple(FUSION["weights"]), **FUSION)
        assert fused.shape[1:] == size
        with torch.inference_mode():
            edge = irn.edges(torch.randn(1, 3, *size), flip=True)
            (labels,) = walk_labels([fused], edge, seen=size, **WALK)
        assert labels.shape == size
        assert 0 <= labels.min() <= labels.max() <= len(record.labels)


def test_cams_of_a_panorama(images):
    (record,) = (record for record in images if record.width == 6000)
    options = {"num_classes": 3, "scales": (0.25, 1.0), "flip": True, "mask_absent": False, "batch_size": 2}
    ((_, maps),) = infer_cams(network().eval(), [[record]], precision="fp32", device=CPU, workers=0, **options)
    assert [array.shape[2:] for array in maps] == [(1, 94), (1, 375)]
    assert all(np.isfinite(array).all() for array in maps)


@pytest.mark.parametrize("image_scale", [1.0, 0.25])
def test_predictions(images, image_scale):
    torch.manual_seed(0)
    segmenter = DeepLabV2(arch="resnet18", num_classes=4, atrous_rates=(1, 2), image_scale=image_scale).eval()
    batches = [[record] for record in images]
    options = {"scales": (0.5, 1.0, 1.5), "merge": "max", "flip": True, "crf": None}
    options |= {"precision": "fp32", "device": CPU, "workers": 1}
    for record, (image_id, labels) in zip(images, predict_labels(segmenter, batches, **options), strict=True):
        assert (image_id, labels.shape) == (record.id, (record.height, record.width))
