"""The public data flow in the benchmark computes what ours does, on the same inputs."""

import numpy as np
import pytest
import torch

from bench import public_images, public_step
from bench.inputs import cam_network, drawn
from bench.measure import difference
from sfc.calibration.network import Maps

CPU = torch.device("cpu")


def pair(rows, name):
    row = next(row for row in rows if row.name == name)
    options = {} if name == "crf-files" else {"drawn_seeds": False}
    return row.build(CPU, **row.sizes["tiny"], **options)


def test_drawn_seeds_are_thirds_of_the_image_where_the_mask_allows_it():
    seeds = drawn(torch.zeros(2, 5, 2, 6))
    assert seeds.sum(dim=(0, 2)).tolist() == [
        [4, 4, 0, 0, 0, 0],
        [0, 0, 4, 4, 0, 0],
        [0, 0, 0, 0, 4, 4],
        [0] * 6,
        [0] * 6,
    ]
    mask = torch.ones(2, 5, 1, 1)
    mask[:, 1] = 0
    maps = Maps(torch.empty(0), torch.empty(0), None)
    found = cam_network("resnet18", 4).seeds(maps, torch.rand(2, 5, 2, 6), mask)
    assert found.sum(dim=(0, 2, 3)).tolist() == [8, 0, 8, 0, 0]


def test_equal_losses_and_gradients_step_after_step():
    """The norm of the gradients is among what is compared; later steps see weights that both have changed."""
    forms = pair(public_step.ROWS, "sfc-step-fp32")
    before = forms.ours()
    forms.plain()
    for _ in range(2):
        plain, ours = forms.plain(), forms.ours()
        assert difference(plain, ours) < 1e-4
    assert not torch.equal(ours[0], before[0])
    assert all(float(part) > 0 for part in ours)


def test_the_public_form_counts_the_bank_and_the_masks():
    """Where its images have no mask or the bank draws others, the losses are others."""
    expected = pair(public_step.ROWS, "sfc-step-fp32").plain()
    forms = pair(public_step.ROWS, "sfc-step-fp32")
    public = forms.plain.func.__self__
    public.bank["image"] += 1
    assert difference(expected, forms.plain()) > 1e-3
    forms = pair(public_step.ROWS, "sfc-step-fp32")
    forms.plain.args[0]["mask"].fill_(1)
    assert difference(expected, forms.plain()) > 1e-3


@pytest.mark.parametrize(("name", "most"), [("cam-files-fp32", 1e-4), ("cam-files-bf16", 0.05)])
def test_equal_cams_of_image_files(name, most):
    forms = pair(public_images.ROWS, name)
    try:
        (plain,), (ours,) = forms.plain(), forms.ours()
    finally:
        forms.close()
    assert plain.shape == (2, 2, 3, 64, 96)  # images, kinds, background and two classes
    assert np.abs(plain - ours).max() < most * plain.max()
    assert np.ptp(plain[:, :, 1:]) > 0.5


def test_equal_confident_labels_of_image_files():
    forms = pair(public_images.ROWS, "crf-files")
    try:
        (plain,), (ours,) = forms.plain(), forms.ours()
    finally:
        forms.close()
    np.testing.assert_array_equal(plain, ours)
    assert set(np.unique(ours)) == {0, 1, 2, 255}
