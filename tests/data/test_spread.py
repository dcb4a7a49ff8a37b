from itertools import pairwise

from sfc.data.spread import spread_over_classes


def test_images_are_spread_over_classes_and_the_rare_ones_come_first():
    labels = [(0,)] * 10 + [(1,), (0, 1), (), (2,)]
    assert spread_over_classes(labels, 3) == [0, 10, 13]
    assert spread_over_classes(labels, 5) == [0, 1, 10, 11, 13]  # class 2 is used up
    assert spread_over_classes(labels, 99) == [*range(12), 13]
    assert spread_over_classes([], 3) == []


def test_a_smaller_choice_is_part_of_a_larger_one():
    labels = [(i % 3, 3) if i % 5 else () for i in range(40)]
    choices = [set(spread_over_classes(labels, count)) for count in range(40)]
    assert all(small <= large for small, large in pairwise(choices))
    assert [len(choice) for choice in choices] == [min(count, 32) for count in range(40)]
