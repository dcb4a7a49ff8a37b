import math

import numpy as np
import pytest

from sfc.errors import UserError
from sfc.evaluation.class_sets import resolve_sets, set_means

CLASSES = ("aeroplane", "bicycle", "bird")


def test_sets_are_label_values_and_may_leave_classes_out():
    assert resolve_sets({"many": ("bird",), "few": ("bicycle", "bird")}, CLASSES) == {"many": [3], "few": [2, 3]}
    assert resolve_sets({}, CLASSES) == {}


@pytest.mark.parametrize(
    ("name", "hint"), [("bycicle", "did you mean bicycle"), ("xyz", "the classes are aeroplane, bicycle, bird")]
)
def test_unknown_class_is_refused_with_the_nearest_name(name, hint):
    with pytest.raises(UserError, match=f"evaluate.class_sets.few: .*{name}.*{hint}"):
        resolve_sets({"few": ("bird", name)}, CLASSES)


def test_a_class_listed_twice_is_refused():
    with pytest.raises(UserError, match=r"class_sets.few.*twice"):
        resolve_sets({"few": ("bird", "bird")}, CLASSES)


@pytest.mark.parametrize("name", ["low", "high"])
def test_a_set_may_not_be_named_as_a_limit_of_the_interval(name):
    with pytest.raises(UserError, match=rf"class_sets.{name}: miou_{name} is a limit.*rename the set"):
        resolve_sets({name: ("bird",)}, CLASSES)


def test_means_leave_absent_classes_out():
    means = set_means(np.array([0.9, 0.2, np.nan, 0.4]), {"a": [1, 3], "b": [2, 3], "c": [2], "d": []})
    assert means["a"] == pytest.approx(0.3)
    assert means["b"] == pytest.approx(0.4)
    assert all(math.isnan(means[name]) for name in "cd")
