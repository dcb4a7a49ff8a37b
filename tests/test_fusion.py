import numpy as np
import pytest
import torch

from sfc.data.manifest import label_keys
from sfc.errors import UserError
from sfc.fusion import background_rule, check_weights, fuse, normalise_scales, to_labels


def _bilinear(channel, size):
    """Resize by the definition: pixel centres aligned, edges clamped."""
    h, w = channel.shape
    out = np.zeros(size)
    for y in range(size[0]):
        for x in range(size[1]):
            sy = min(max((y + 0.5) * h / size[0] - 0.5, 0), h - 1)
            sx = min(max((x + 0.5) * w / size[1] - 0.5, 0), w - 1)
            y0, x0 = int(sy), int(sx)
            y1, x1 = min(y0 + 1, h - 1), min(x0 + 1, w - 1)
            fy, fx = sy - y0, sx - x0
            top = channel[y0, x0] * (1 - fx) + channel[y0, x1] * fx
            bottom = channel[y1, x0] * (1 - fx) + channel[y1, x1] * fx
            out[y, x] = top * (1 - fy) + bottom * fy
    return out


def _slow_fuse(maps, size, weights, gain, offset):  # weights and gains by kind
    kinds, channels = maps[0].shape[:2]
    final = np.zeros((channels, *size))
    for kind in range(kinds):
        for channel in range(channels):
            total = sum(_bilinear(m[kind, channel].astype(np.float64), size) for m in maps)
            total = total / (total.max() + 1e-5)
            total = total + offset if channel == 0 else total * gain[kind]
            final[channel] += weights[kind] * total
    return final


@pytest.mark.parametrize("kinds", [1, 2])
@pytest.mark.parametrize("size", [(13, 9), (1, 20), (5, 4)])
@pytest.mark.parametrize("gain", [2.0, {"prototype": 0.1, "classifier": 1.25}])
def test_fusion_equals_the_loops(kinds, size, gain):
    rng = np.random.default_rng(3)
    maps = [rng.random((kinds, 3, h, w), dtype=np.float32) for h, w in [(3, 2), (1, 1), (6, 7)]]
    maps[0][:, 2] = maps[1][:, 2] = maps[2][:, 2] = 0
    names = ("classifier", "prototype")[:kinds]
    weights = {"prototype": 0.7, "classifier": 1.5} if kinds == 2 else {"classifier": 1.5}
    fused = fuse(normalise_scales(maps, size), names, weights=weights, fg_gain=gain, bg_offset=0.4)
    assert fused.dtype == torch.float32
    slow = _slow_fuse(maps, size, [1.5, 0.7], [2.0, 2.0] if gain == 2.0 else [1.25, 0.1], 0.4)
    np.testing.assert_allclose(fused, slow, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("weights", [{"classifier": 1.0}, {}, {"classifier": 1.0, "prototype": 1.0, "third": 1.0}])
def test_weights_of_other_kinds_are_refused(weights):
    with pytest.raises(UserError, match="the CAMs that stand for the method are classifier, prototype"):
        check_weights(("classifier", "prototype"), weights)


def test_background_rule_leaves_its_input_alone():
    cams = torch.rand(2, 3, 4, 5)
    before = cams.clone()
    ruled = background_rule(cams, fg_gain=2.0, bg_offset=0.4)
    assert torch.equal(cams, before)
    assert torch.equal(ruled[:, 0], before[:, 0] + 0.4)
    assert torch.equal(ruled[:, 1:], before[:, 1:] * 2)


def test_an_image_without_classes_is_background():
    normalised = normalise_scales([np.zeros((2, 1, 1, 1), np.float32)], (4, 3))
    fused = fuse(normalised, ("a", "b"), weights={"a": 1.0, "b": 1.0}, fg_gain=2.0, bg_offset=0.4)
    assert fused.shape == (1, 4, 3)
    assert (to_labels(fused.argmax(0), label_keys(())) == 0).all()


def test_labels_are_the_keys_of_the_channels():
    labels = to_labels(torch.tensor([[0, 2], [1, 0]]), label_keys((4, 19)))
    assert labels.dtype == np.uint8
    assert labels.tolist() == [[0, 20], [5, 0]]
