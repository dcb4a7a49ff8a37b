"""Dropout that belongs to the step: rates, shapes, the same numbers again, the same for every number of processes."""

import pytest
import torch
from torch import nn

from sfc.segmentation.dropout import Dropout, start_step
from sfc.training import distributed

CPU = torch.device("cpu")


def run(features, *, step=0, seed=0, batch_size=None, whole_channels=False, p=0.3):
    layers = nn.Sequential(Dropout(p, whole_channels=whole_channels), Dropout(0.0, whole_channels=True)).train()
    start_step(layers, seed=seed, step=step, batch_size=batch_size or len(features), device=CPU)
    return layers(features)


def test_share_and_scale_of_what_is_kept():
    found = run(torch.ones(4, 32, 16, 16))
    assert (found == 0).float().mean().item() == pytest.approx(0.3, abs=0.01)
    assert found.unique().tolist() == pytest.approx([0, 1 / 0.7])


def test_whole_channels_fall_together():
    found = run(torch.ones(8, 64, 3, 5), whole_channels=True)
    assert torch.equal(found, found[:, :, :1, :1].expand_as(found))
    assert (found == 0).float().mean().item() == pytest.approx(0.3, abs=0.05)


def test_gradient_passes_what_is_kept():
    features = torch.ones(2, 8, 4, 4, requires_grad=True)
    found = run(features)
    found.sum().backward()
    torch.testing.assert_close(features.grad, found.detach())


def test_numbers_are_those_of_seed_and_step():
    torch.manual_seed(1)
    first = run(torch.ones(2, 8, 4, 4), step=3)
    torch.manual_seed(2)
    assert torch.equal(run(torch.ones(2, 8, 4, 4), step=3), first)
    assert not torch.equal(run(torch.ones(2, 8, 4, 4), step=4), first)
    assert not torch.equal(run(torch.ones(2, 8, 4, 4), step=3, seed=1), first)


@pytest.mark.parametrize("whole_channels", [False, True])
def test_shares_of_processes_are_the_whole_batch(monkeypatch, whole_channels):
    whole = run(torch.ones(5, 8, 4, 4), whole_channels=whole_channels)
    parts = []
    for rank in range(2):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        monkeypatch.setattr(distributed, "world_size", lambda: 2)
        parts.append(run(torch.ones(3 - rank, 8, 4, 4), batch_size=5, whole_channels=whole_channels))
    assert torch.equal(torch.cat(parts), whole)


def test_inference_drops_nothing():
    features = torch.randn(2, 3, 4, 4)
    assert torch.equal(Dropout(0.5, whole_channels=True).eval()(features), features)
