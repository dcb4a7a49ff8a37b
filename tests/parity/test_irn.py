import numpy as np
import pytest
import torch

from sfc.irn.pair_loss import PairLabels, pair_loss
from sfc.irn.pair_paths import flat_paths, offsets, pair_affinities, path


def sources(maps, radius):
    """(..., H, W) cut to the pixels whose every partner is inside the map, flat."""
    return maps[..., : maps.shape[-2] - radius + 1, radius - 1 : maps.shape[-1] - radius + 1].flatten(-2)


@pytest.fixture(params=[5, 10])
def radius(request):
    return request.param


def test_offsets_and_paths(golden, radius):
    arrays = golden(f"irn_radius{radius}")
    np.testing.assert_array_equal(offsets(radius), arrays["offsets_dy_dx"])
    np.testing.assert_array_equal([len(path(offset)) for offset in offsets(radius)], arrays["path_points"])


def test_affinities(golden, radius):
    arrays = golden(f"irn_radius{radius}")
    affinity = sources(pair_affinities(torch.tensor(arrays["edge"]), radius), radius)
    np.testing.assert_allclose(affinity, arrays["affinity"], rtol=1e-5, atol=1e-7)


def test_pairs(golden, radius):
    arrays = golden(f"irn_radius{radius}")
    maps = torch.tensor(arrays["label_map"])
    labels = PairLabels(maps, radius)
    paths = flat_paths(radius, maps.shape[2])
    found = {name: [] for name in ("bg_pairs", "fg_pairs", "neg_pairs")}
    for alike, different in (labels.pairs(p.shift) for p in paths):
        for masks, mask in zip(
            found.values(), (alike & labels.background, alike & labels.foreground, different), strict=True
        ):
            whole = torch.zeros_like(maps, dtype=torch.bool)
            whole.view(len(maps), -1)[:, labels.start : labels.stop] = mask
            assert whole.sum() == sources(whole, radius).sum()
            masks.append(sources(whole, radius))
    for name, masks in found.items():
        np.testing.assert_array_equal(torch.stack(masks, dim=1), arrays[name])
    expected = [arrays[name].sum() for name in found]
    assert labels.counts(paths).tolist() == expected


def test_loss(golden, radius):
    arrays = golden(f"irn_radius{radius}")
    loss = pair_loss(torch.tensor(arrays["edge"]), torch.tensor(arrays["label_map"]), radius)
    np.testing.assert_allclose(loss.positive, arrays["loss_pos"], rtol=1e-5)
    np.testing.assert_allclose(loss.negative, arrays["loss_neg"], rtol=1e-5)
    np.testing.assert_allclose(loss.loss, (arrays["loss_pos"] + arrays["loss_neg"]) / 2, rtol=1e-5)
