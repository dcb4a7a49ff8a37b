"""The bank against a plain list of slots."""

import pytest
import torch

from sfc.calibration.image_bank import ImageBank

CLASSES, CROP = 5, 4


def bank(**changes):
    settings = {"draws": 3, "replacement": True, "exclude_batch": False, "allow_empty": False, "seed": 1}
    return ImageBank(num_classes=CLASSES, crop=CROP, **{**settings, **changes})


def batch(rows, tag):
    """Images whose every pixel names them: 10 * tag + place in the batch."""
    labels = torch.zeros(len(rows), CLASSES)
    for row, classes in enumerate(rows):
        labels[row, list(classes)] = 1
    names = torch.arange(len(rows)) + 10 * tag
    images = names.view(-1, 1, 1, 1).expand(-1, 3, CROP, CROP).to(torch.uint8)
    return {"image": images, "box": names[:, None].expand(-1, 4).clone(), "label": labels}


def random_rows(seed, count=6):
    numbers = torch.Generator().manual_seed(seed)
    return [torch.randperm(CLASSES, generator=numbers)[: 1 + int(r)].tolist() for r in torch.arange(count) % 3]


def test_update_keeps_the_last_image_of_each_class():
    ours, slots = bank(), [None] * CLASSES
    for step in range(1, 8):
        rows = random_rows(step, count=3)
        ours.update(batch(rows, step))
        for place, classes in enumerate(rows):
            for c in classes:
                slots[c] = (10 * step + place, rows[place])
        for c, slot in enumerate(slots):
            assert bool(ours.filled[c]) == (slot is not None)
            if slot is not None:
                name, classes = slot
                assert ours.image[c].unique().tolist() == [name]
                assert ours.box[c].tolist() == [name] * 4
                assert ours.label[c].nonzero().flatten().tolist() == sorted(classes)


def names_drawn(ours, times):
    return [int(n) for _ in range(times) for n in ours.draw()["box"][:, 0]]


def test_draws_are_uniform_over_the_filled_slots():
    ours = bank()
    ours.update(batch([[0], [2], [4]], 1))
    names = names_drawn(ours, 600)
    assert set(names) == {10, 11, 12}
    for name in (10, 11, 12):
        assert names.count(name) == pytest.approx(600, abs=90)


def test_an_image_of_two_classes_counts_twice():
    ours = bank()
    ours.update(batch([[0, 1, 2], [3]], 1))
    names = names_drawn(ours, 600)
    assert names.count(10) == pytest.approx(1350, abs=90)


def test_empty_slots_are_drawn_only_where_allowed():
    ours = bank(allow_empty=True)
    ours.update(batch([[0]], 1))
    assert set(names_drawn(ours, 100)) == {0, 10}
    drawn = ours.draw()
    assert (drawn["label"].sum(dim=1) == 0).any() or (ours.draw()["label"].sum(dim=1) == 0).any()


@pytest.mark.parametrize("replacement", [True, False])
@pytest.mark.parametrize("exclude_batch", [True, False])
def test_images_that_show_no_class_have_no_slot(replacement, exclude_batch):
    ours = bank(replacement=replacement, exclude_batch=exclude_batch)
    ours.update(batch([[], [], []], 1))
    assert not ours.filled.any()
    drawn = ours.draw()  # nothing there yet: black images without label, outside whose boxes is everything
    assert [len(drawn[name]) for name in ("image", "box", "label")] == [3, 3, 3]
    assert not any(rows.any() for rows in drawn.values())
    ours.update(batch([[], [1], []], 2))
    ours.update(batch([[], []], 3))
    assert ours.filled.tolist() == [False, True, False, False, False]
    assert set(names_drawn(ours, 5)) == {21}


def test_without_replacement_no_slot_comes_twice():
    ours = bank(replacement=False)
    ours.update(batch([[0], [1], [2], [3]], 1))
    for _ in range(50):
        names = ours.draw()["box"][:, 0].tolist()
        assert len(set(names)) == 3


def test_the_batch_can_be_excluded():
    ours = bank(exclude_batch=True)
    ours.update(batch([[0], [1]], 1))
    assert set(names_drawn(ours, 20)) == {10, 11}  # nothing else there yet
    ours.update(batch([[1], [2]], 2))
    assert set(names_drawn(ours, 20)) == {10}


def test_the_same_seed_draws_the_same_and_a_restored_bank_goes_on():
    first, second = bank(), bank()
    for ours in (first, second):
        ours.update(batch([[0], [1], [2]], 1))
    assert names_drawn(first, 5) == names_drawn(second, 5)
    third = bank()
    third.load_state_dict(first.state_dict())
    assert names_drawn(third, 5) == names_drawn(first, 5)
    assert names_drawn(bank_with(seed=2), 5) != names_drawn(bank_with(seed=1), 5)


def bank_with(seed):
    ours = bank(seed=seed)
    ours.update(batch([[0], [1], [2], [3], [4]], 1))
    return ours
