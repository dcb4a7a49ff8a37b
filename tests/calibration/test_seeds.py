"""The seeds of Eq. 3 by every rule, against loops and by hand."""

import numpy as np
import pytest
import torch

from sfc.calibration import cams, seeds
from tests.calibration.loop_seeds import loop_structure_seeds


def random(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def test_seeds_argmax_weighs_the_background():
    cam = torch.tensor([[0.5, 0.5], [0.2, 0.1]]).view(1, 2, 1, 2)
    mask = torch.ones(1, 2, 1, 2)
    kwargs = {"mode": "argmax", "threshold": 0.0, "seed_range": "none"}
    assert seeds.prototype_seeds(cam, mask, bkg_scale=1.0, **kwargs)[0, 0].tolist() == [[1.0, 1.0]]
    assert seeds.prototype_seeds(cam, mask, bkg_scale=0.3, **kwargs)[0, 0].tolist() == [[0.0, 1.0]]


def test_seeds_threshold_and_mask():
    cam = torch.tensor([[0.5, 0.1], [0.4, 0.6]]).view(1, 2, 1, 2)
    mask = torch.tensor([[1.0, 1.0], [1.0, 0.0]]).view(1, 2, 1, 2)
    found = seeds.prototype_seeds(cam, mask, mode="threshold", bkg_scale=0.3, threshold=0.3, seed_range="none")
    assert found[0, :, 0].tolist() == [[1.0, 0.0], [1.0, 0.0]]


def test_image_range_scales_each_channel_of_each_image():
    cam = random(2, 3, 3, 4) * 0.02 + 0.9
    cam[0, 1] = 0.7
    mask = torch.ones(2, 3, 3, 4)
    mask[0, :, :, 3] = 0  # outside the image
    mask[1, 2] = 0  # an absent class
    found = seeds.image_range(cam, mask).double().numpy()
    values = cam.double().numpy()
    for b in range(2):
        for k in range(3):
            inside = [(y, x) for y in range(3) for x in range(4) if mask[b, k, y, x]]
            low = min((values[b, k, y, x] for y, x in inside), default=0)
            high = max((values[b, k, y, x] for y, x in inside), default=0)
            for y in range(3):
                for x in range(4):
                    scaled = (values[b, k, y, x] - low) / (high - low + 1e-5) if high > low else values[b, k, y, x]
                    assert found[b, k, y, x] == pytest.approx(scaled if (y, x) in inside else 0, abs=1e-5)
    assert seeds.image_range(cam, mask).max() > 0.99


def test_a_flat_map_has_a_seed_of_the_background_in_its_own_range_alone():
    foreground = torch.tensor([[0.90, 0.91, 0.94, 0.95]]).view(1, 1, 1, 4)
    cam = torch.cat([cams.prepend_background(foreground), torch.full((1, 1, 1, 4), 0.99)], dim=1)
    mask = torch.tensor([1.0, 1.0, 0.0]).view(1, 3, 1, 1)  # the last class is absent
    kwargs = {"mode": "argmax", "bkg_scale": 0.3, "threshold": 0.0}
    cam_present = cam * mask
    assert seeds.prototype_seeds(cam_present, mask, **kwargs, seed_range="none")[0, 0].sum() == 0
    for maps in (cam, cam_present):  # inference may leave absent classes in the CAM
        found = seeds.prototype_seeds(maps, mask, **kwargs, seed_range="image")[0, :, 0]
        assert found.tolist() == [[1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 0, 0]]  # 0.3 (1 - 0.2) > 0.2, and not 0.8
    one_cell = seeds.prototype_seeds(cam[:, :, :, :1], mask, **kwargs, seed_range="image")
    assert one_cell[0, :, 0, 0].tolist() == [0, 1, 0]


def test_structure_seeds_follow_the_soft_intersection_over_union():
    numbers = np.random.default_rng(0)
    for _ in range(5):
        cam, feature = numbers.random((2, 4, 3, 5)), numbers.standard_normal((2, 6, 3, 5))
        mask = torch.ones(2, 4, 1, 1)
        mask[1, 2] = 0
        expected = loop_structure_seeds(cam, feature, 0.5) * mask.numpy()
        actual = seeds.structure_seeds(torch.tensor(cam), torch.tensor(feature), mask, bkg_scale=0.5)
        np.testing.assert_array_equal(actual.numpy(), expected)


def test_structure_seeds_in_parts(monkeypatch):
    numbers = torch.Generator().manual_seed(2)
    cam, feature = torch.rand(2, 4, 6, 7, generator=numbers), torch.randn(2, 5, 6, 7, generator=numbers)
    whole = seeds.structure_seeds(cam, feature, torch.ones(1, 1, 1, 1), bkg_scale=0.5)
    sizes = []
    likeness = seeds._likeness
    monkeypatch.setattr(seeds, "_likeness", lambda m, f, part: sizes.append(part.shape[2]) or likeness(m, f, part))
    monkeypatch.setattr(cams, "_AFFINITY_ENTRIES", 2 * 42**2 - 1)
    monkeypatch.setattr(cams, "_PART_ENTRIES", 2 * 42 * 20)
    assert torch.equal(seeds.structure_seeds(cam, feature, torch.ones(1, 1, 1, 1), bkg_scale=0.5), whole)
    assert sizes == [20, 20, 2]


def test_seeds_by_structure_are_those_of_sipe_and_read_the_maps_own_range_where_asked():
    cam, feature, mask = random(2, 3, 4, 5) * 0.1 + 0.8, random(2, 6, 4, 5, seed=1) - 0.5, torch.ones(2, 3, 1, 1)
    rule = {"mode": "structure", "bkg_scale": 0.5, "threshold": 0.3, "feature": feature}
    found = [seeds.prototype_seeds(cam, mask, seed_range=name, **rule) for name in ("none", "image")]
    for actual, maps in zip(found, (cam, seeds.image_range(cam, mask)), strict=True):
        expected = loop_structure_seeds(maps.double().numpy(), feature.double().numpy(), 0.5)
        np.testing.assert_array_equal(actual.numpy(), expected)
    assert not torch.equal(*found)
