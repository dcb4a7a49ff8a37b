"""What is measured of a training against loops, in float64."""

import numpy as np
import pytest
import torch

from sfc.calibration import cams, measures
from sfc.calibration.seeds import prototype_seeds


def random(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def maps():
    """CAM, seeds and mask of five images: an absent class, a crop with a margin, an empty slot of the bank."""
    cam = random(5, 4, 3, 5)
    cam[0, 1:], cam[1, 0] = 0.9, 0.0  # no seed of the background in either
    labels = torch.tensor([[1.0, 0, 1], [0, 1, 0], [1, 1, 1], [0, 0, 1], [0, 0, 0]])
    boxes = torch.tensor([[0, 0, 48, 80], [0, 0, 48, 80], [16, 0, 48, 50], [0, 0, 48, 80], [0, 0, 0, 0]])
    mask = cams.valid_mask(boxes, labels, crop=(48, 80), size=(3, 5))
    cam = cam * mask
    seeds = prototype_seeds(cam, mask, mode="argmax", bkg_scale=0.7, threshold=0.0, seed_range="none")
    return cam, seeds, mask


def cells(mask, b, k):
    return [(y, x) for y in range(mask.shape[2]) for x in range(mask.shape[3]) if mask[b, k, y, x]]


def ratio(found):
    total, count = found
    assert total.dtype == count.dtype == torch.float32
    return total.item() / count.item()


def test_images_without_seed_of_the_background():
    _, seeds, mask = maps()
    images = [b for b in range(5) if cells(mask, b, 0)]
    without = [b for b in images if sum(seeds[b, 0].flatten().tolist()) == 0]
    assert images == [0, 1, 2, 3]
    assert without[:2] == [0, 1]
    assert ratio(measures.no_background_seed(seeds, mask)) == len(without) / len(images)


def test_empty_prototypes():
    _, seeds, mask = maps()
    prototypes = [(b, k) for b in range(5) for k in range(4) if cells(mask, b, k)]
    empty = [(b, k) for b, k in prototypes if sum(seeds[b, k].flatten().tolist()) == 0]
    assert (len(prototypes), (4, 0) in prototypes) == (4 + 7, False)
    assert ratio(measures.empty_prototypes(seeds, mask)) == pytest.approx(len(empty) / len(prototypes))
    assert empty


def test_range_of_the_present_classes():
    cam, _, mask = maps()
    cam = cam + 0.5 * (1 - mask)  # what the correlation leaves outside the image does not count
    found = []
    for b in range(5):
        for k in range(1, 4):
            values = [cam[b, k, y, x].item() for y, x in cells(mask, b, k)]
            if values:
                found.append(max(values) - min(values))
    assert len(found) == 7
    assert ratio(measures.cam_range(cam, mask)) == pytest.approx(sum(found) / len(found), rel=1e-6)


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (5, 8)])
def test_effective_share_of_the_correlation(size):
    feature = random(2, 6, *size, seed=3) - 0.3
    pixels = size[0] * size[1]
    chosen = sorted({round(i * (pixels - 1) / 15) for i in range(16)}) if pixels > 16 else range(pixels)
    found = []
    for image in feature.double().numpy().reshape(2, 6, -1):
        units = [p / np.linalg.norm(p) for p in image.T]
        for j in chosen:
            weights = [max(0.0, unit @ units[j]) for unit in units]
            weights = [w / sum(weights) for w in weights]
            found.append(1 / (pixels * sum(w * w for w in weights)))
    assert ratio(measures.effective_share(feature)) == pytest.approx(np.mean(found), rel=1e-5)


def test_effective_share_is_1_of_equal_pixels_and_a_pixels_own_of_orthogonal_ones():
    assert ratio(measures.effective_share(torch.ones(1, 3, 4, 4))) == pytest.approx(1.0)
    assert ratio(measures.effective_share(torch.eye(12).view(1, 12, 3, 4))) == pytest.approx(1 / 12)
    assert ratio(measures.effective_share(torch.zeros(1, 3, 4, 4))) == 0.0  # finite: the loop looks for what is not


def test_no_measure_has_a_gradient():
    cam, _, mask = maps()
    cam.requires_grad_()
    feature = random(5, 2, 3, 5).requires_grad_()
    found = measures.averaged({"range": measures.cam_range(cam, mask), "share": measures.effective_share(feature)})
    assert list(found) == ["range", "share"]
    assert not any(value.requires_grad or value.ndim for value in found.values())
    assert found["range"].item() == pytest.approx(ratio(measures.cam_range(cam.detach(), mask)))
