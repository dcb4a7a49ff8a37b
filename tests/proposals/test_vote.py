"""The vote of mask proposals against one that goes pixel by pixel."""

import numpy as np
import pytest

from sfc.proposals.vote import vote

RULE = {"covered": 0.5, "held": None, "unclaimed": "background"}


def slow_vote(label, cams, keys, proposals, *, covered, held, unclaimed):
    """The rule as it is said, with sets of pixels."""
    won = []
    for mask in proposals:
        pixels = list(zip(*np.nonzero(mask), strict=True))
        masses = [sum(float(cam[pixel]) for pixel in pixels) for cam in cams[1:]]
        if not any(masses):
            continue
        value = keys[1 + masses.index(max(masses))]
        inside = sum(label[pixel] == value for pixel in pixels)
        everywhere = int((label == value).sum())
        if inside > covered * len(pixels) or (held is not None and inside and inside >= held * everywhere):
            won.append((len(pixels), value, set(pixels)))
    voted = label.copy()
    for pixel in np.ndindex(label.shape):
        around = [(area, -number, value) for number, (area, value, pixels) in enumerate(won) if pixel in pixels]
        if around:
            voted[pixel] = min(around)[2]
        elif unclaimed == "background" and any(mask[pixel] for mask in proposals):
            voted[pixel] = 0
    return voted


def scene(seed, count=12, shape=(14, 17), keys=(0, 2, 5)):
    """A noisy label, CAMs that agree with it by and large, and rectangles that lie over one another."""
    rng = np.random.default_rng(seed)
    label = np.zeros(shape, np.uint8)
    proposals = []
    for _ in range(count):
        top, left = rng.integers(0, shape[0] - 3), rng.integers(0, shape[1] - 3)
        mask = np.zeros(shape, bool)
        mask[top : top + rng.integers(1, 9), left : left + rng.integers(1, 9)] = True
        if rng.random() < 0.5:
            label[mask] = rng.choice(keys)
        proposals.append(mask)
    label = np.where(rng.random(shape) < 0.2, rng.choice(keys, shape), label).astype(np.uint8)
    cams = rng.random((len(keys), *shape)).astype(np.float32) + (label == np.array(keys)[:, None, None])
    return label, cams.astype(np.float32), keys, proposals


@pytest.mark.parametrize("unclaimed", ["background", "keep"])
@pytest.mark.parametrize("held", [None, 0.7])
@pytest.mark.parametrize("seed", range(6))
def test_the_vote_is_the_slow_one(seed, held, unclaimed):
    rule = {"covered": 0.4, "held": held, "unclaimed": unclaimed}
    label, *rest = scene(seed)
    before = label.copy()
    voted = vote(label, *rest, **rule)
    np.testing.assert_array_equal(voted, slow_vote(label, *rest, **rule))
    np.testing.assert_array_equal(label, before)
    assert voted.dtype == np.uint8
    assert (voted != label).any()


def halves():
    """A proposal of eight pixels; the label of class 3 covers six of them, and two pixels elsewhere."""
    mask = np.zeros((4, 6), bool)
    mask[:2, :4] = True
    label = np.zeros((4, 6), np.uint8)
    label[:2, :3] = label[3, 4:] = 3
    cams = np.ones((2, 4, 6), np.float32)
    return label, cams, (0, 3), mask


def test_a_class_wins_what_it_covers_enough_of():
    label, cams, keys, mask = halves()
    voted = vote(label, cams, keys, [mask], **RULE | {"covered": 0.7})
    assert (voted[mask] == 3).all()
    np.testing.assert_array_equal(voted[~mask], label[~mask])  # nobody proposed anything there
    for covered in (0.75, 0.8):  # more than the share, not as much
        assert not vote(label, cams, keys, [mask], **RULE | {"covered": covered})[mask].any()


def test_or_what_holds_enough_of_its_label():
    label, cams, keys, mask = halves()
    rule = RULE | {"covered": 1.0, "unclaimed": "keep"}
    assert (vote(label, cams, keys, [mask], **rule | {"held": 0.75})[mask] == 3).all()  # six of eight
    np.testing.assert_array_equal(vote(label, cams, keys, [mask], **rule | {"held": 0.8}), label)


def test_the_cams_say_which_class_a_proposal_could_be_of():
    label, cams, _, mask = halves()
    cams = np.stack([cams[0], cams[1], 2 * cams[1]])
    assert not vote(label, cams, (0, 3, 4), [mask], **RULE)[mask].any()  # of class 4, whose label covers nothing
    assert (vote(label, cams[[0, 2, 1]], (0, 3, 4), [mask], **RULE)[mask] == 3).all()


def test_the_smallest_of_those_won_decides():
    label = np.full((6, 6), 1, np.uint8)
    label[:2, :2] = 2
    cams = np.stack([np.zeros((6, 6)), label == 1, label == 2]).astype(np.float32)
    whole, corner = np.ones((6, 6), bool), label == 2
    for proposals in ([whole, corner], [corner, whole]):
        np.testing.assert_array_equal(vote(label, cams, (0, 1, 2), proposals, **RULE), label)


def test_nobody_wins_where_no_cam_is_active_or_nothing_is_proposed():
    label, cams, keys, mask = halves()
    assert not vote(label, 0 * cams, keys, [mask], **RULE)[mask].any()
    for proposals in ([], [np.zeros_like(mask)]):
        np.testing.assert_array_equal(vote(label, cams, keys, proposals, **RULE), label)


def test_an_image_without_a_class_stays_as_it_is():
    label = np.zeros((4, 6), np.uint8)
    voted = vote(label, np.ones((1, 4, 6), np.float32), (0,), [np.ones((4, 6), bool)], **RULE)
    np.testing.assert_array_equal(voted, label)
