"""One network at several scales, and the scales as one map."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sfc.segmentation.pyramid import merged, pyramid_logits


class Mean(nn.Module):
    """A stand-in network of stride 2."""

    def forward(self, images):
        return F.avg_pool2d(images, 2, ceil_mode=True)


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize(("merge", "rule"), [("max", max), ("mean", np.mean)])
def test_sizes_and_merging(merge, rule, align_corners):
    images = torch.randn(2, 3, 9, 7, dtype=torch.float64)
    pyramid = pyramid_logits(Mean(), images, (1.0, 0.5, 0.01))
    assert [tuple(x.shape[2:]) for x in pyramid] == [(5, 4), (2, 2), (1, 1)]
    large = [F.interpolate(x, size=(5, 4), mode="bilinear", align_corners=align_corners) for x in pyramid]
    found = merged(pyramid, merge=merge, align_corners=align_corners)
    for index in np.ndindex(*found.shape):
        assert found[index].item() == pytest.approx(rule([x[index].item() for x in large]))
    torch.testing.assert_close(merged(pyramid[::-1], merge=merge, align_corners=align_corners), found)


def test_one_scale_is_untouched():
    images = torch.randn(1, 3, 9, 7)
    for merge in ("max", "mean"):
        found = merged(pyramid_logits(Mean(), images, (1.0,)), merge=merge, align_corners=True)
        torch.testing.assert_close(found, Mean()(images), rtol=0, atol=0)
