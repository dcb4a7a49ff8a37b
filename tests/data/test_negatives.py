"""What batches are made of where images show no class, against plain counting; and when there must be such images."""

from collections import Counter

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset

from sfc.data.batches import batches
from sfc.data.negatives import batch_mix, check_told_apart
from sfc.errors import UserError

CLASSES = ("ant", "bee")
# which of the images show no class
EMPTY = {1, 4, 5, 9, 12}
LABELS = np.array([[0, 0] if i in EMPTY else [1, i % 2] for i in range(14)])


class Keys(Dataset):
    """Samples that are nothing but what was asked for."""

    def __getitem__(self, key):
        return {"key": torch.tensor(key)}


def keys(share, *, batch_size=6, steps=20, labels=LABELS, **changes):
    """(steps, batch_size, 2): position and pass of each sample."""
    mix = batch_mix(labels, batch_size, share, section="seg")
    settings = {"seed": 3, "first_step": 0, "workers": 0, "rank": 0, "world": 1, **changes}
    return np.array([batch["key"].tolist() for batch in batches(Keys(), mix=mix, steps=steps, **settings)])


@pytest.mark.parametrize(("share", "negatives"), [(0.5, 3), (1 / 3, 2), (0.2, 1), (0.8, 5)])
def test_every_batch_has_its_share_and_an_epoch_is_a_pass_over_the_others(share, negatives):
    found = keys(share)
    per_epoch = 9 // (6 - negatives)
    assert batch_mix(LABELS, 6, share, section="seg").steps_per_epoch() == per_epoch
    turns = []
    for step, batch in enumerate(found.tolist()):
        empty = [tuple(key) for key in batch if key[0] in EMPTY]
        others = [tuple(key) for key in batch if key[0] not in EMPTY]
        assert len(empty) == negatives
        assert {number for _, number in others} == {step // per_epoch}
        turns += empty
    for start in range(0, 20 * negatives, len(EMPTY)):  # all negatives come before one comes again
        turn = turns[start : start + len(EMPTY)]
        assert len({position for position, _ in turn}) == len(turn)
        assert {number for _, number in turn} == {start // len(EMPTY)}
    seen = [Counter(p for p, _ in found[e : e + per_epoch].reshape(-1, 2) if p not in EMPTY) for e in (0, per_epoch)]
    assert all(set(counts.values()) == {1} for counts in seen)


def test_negatives_stand_evenly_in_a_batch():
    """So that processes, which take contiguous parts of it, have alike shares."""
    for batch in keys(1 / 3)[:, :, 0]:
        assert [[position in EMPTY for position in part].count(True) for part in np.array_split(batch, 2)] == [1, 1]


@pytest.mark.parametrize("share", [None, 0.5])
def test_shares_of_the_processes_and_later_starts_are_the_same_batches(share):
    whole = keys(share)
    parts = [keys(share, rank=rank, world=3) for rank in range(3)]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole)
    np.testing.assert_array_equal(keys(share, first_step=7), whole[7:])


def test_without_a_share_all_images_are_drawn_alike():
    """As before there were negatives: one permutation of all, whatever they show."""
    found, all_shown = keys(None), keys(None, labels=np.ones((14, 2)))
    np.testing.assert_array_equal(found, all_shown)
    assert EMPTY & set(found[:2, :, 0].ravel())


def test_a_share_of_none_leaves_them_out():
    found = keys(0.0, batch_size=3)
    assert not EMPTY & set(found[..., 0].ravel())
    assert batch_mix(LABELS, 3, 0.0, section="seg").used.tolist() == sorted(set(range(14)) - EMPTY)
    assert batch_mix(LABELS, 3, None, section="seg").used.tolist() == list(range(14))
    assert batch_mix(LABELS, 3, 0.4, section="seg").used.tolist() == list(range(14))


def test_what_cannot_be_is_one_line():
    with pytest.raises(
        UserError, match=r"^seg\.negative_share: 0\.5, but all 4 training images show a class; set it to null"
    ):
        batch_mix(np.ones((4, 2)), 4, 0.5, section="seg")
    mix = batch_mix(LABELS, 20, 0.5, section="seg")
    with pytest.raises(UserError, match=r"9 training images that show a class are fewer than the 10 of a batch; lower"):
        mix.steps_per_epoch()
    with pytest.raises(UserError, match=r"14 training images are fewer than one batch of 20; lower seg\.batch_size"):
        batch_mix(LABELS, 20, None, section="seg").steps_per_epoch()


@pytest.mark.parametrize(
    ("rows", "classes", "what"),
    [([[1]] * 3, ("ant",), "all 3 training images show the one class, ant; "), ([[1, 1]] * 2, CLASSES, "ant, bee; ")],
)
def test_images_that_all_show_the_same_are_refused(rows, classes, what):
    with pytest.raises(UserError, match=f"{what}only images without them could teach where they are: do this$"):
        check_told_apart(np.array(rows), classes, advice="do this")


@pytest.mark.parametrize("rows", [[[1], [0]], [[1, 0], [0, 1]], [[1, 1], [1, 0]]])
def test_any_difference_is_enough(rows):
    check_told_apart(np.array(rows), CLASSES[: len(rows[0])], advice="")
