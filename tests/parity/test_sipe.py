"""SIPE's seeds and image-specific CAM against the public implementation's arrays."""

import pytest
import torch

from sfc.calibration import cams
from sfc.calibration.network import Maps
from sfc.calibration.seeds import structure_seeds
from tests.methods.tiny import sipe_network


@pytest.fixture
def arrays(golden):
    arrays = golden("sipe")
    return {name: torch.as_tensor(arrays[name]).float() for name in arrays.files}


def seeds(arrays):
    return structure_seeds(arrays["norm_cam"], arrays["semantic_feature"], arrays["valid_mask"], bkg_scale=0.5)


def test_seeds_are_identical(arrays):
    assert torch.equal(seeds(arrays), arrays["seeds"])


def test_prototypes_and_image_specific_cam(arrays):
    feature = arrays["hierarchical_feature"]
    prototypes = cams.class_prototypes(feature, arrays["seeds"])
    torch.testing.assert_close(prototypes, arrays["prototype"], rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(cams.prototype_cam(feature, arrays["seeds"]), arrays["is_cam"], rtol=1e-5, atol=1e-6)


def test_the_network_puts_seeds_and_prototypes_together(arrays):
    maps = Maps(arrays["norm_cam"][:, 1:], arrays["semantic_feature"], arrays["hierarchical_feature"])
    found = sipe_network().cam_specific(maps, arrays["norm_cam"], maps.semantic, arrays["valid_mask"])
    torch.testing.assert_close(found, arrays["is_cam"], rtol=1e-5, atol=1e-6)
