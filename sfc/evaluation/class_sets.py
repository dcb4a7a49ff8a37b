"""Means over named sets of classes, such as Many, Medium and Few."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from sfc.errors import UserError, nearest
from sfc.evaluation.confusion import mean_known


def resolve_sets(class_sets: Mapping[str, Sequence[str]], classes: Sequence[str]) -> dict[str, list[int]]:
    """Class names to label-map values (class i of `classes` is i + 1). Classes may be in any number of sets or none.

    Raises:
        UserError: a set names a class the data set does not have, or names one twice; its figure would have the
            name of another figure.
    """
    values = {name: i + 1 for i, name in enumerate(classes)}
    for set_name, members in class_sets.items():
        if set_name in ("low", "high"):
            raise UserError(
                f"evaluate.class_sets.{set_name}: miou_{set_name} is a limit of the mIoU's interval; rename the set"
            )
        for member in members:
            if member not in values:
                hint = nearest(member, classes, otherwise=f"the classes are {', '.join(classes)}")
                raise UserError(f"evaluate.class_sets.{set_name}: no class is called {member}{hint}")
        if len(set(members)) < len(members):
            raise UserError(f"evaluate.class_sets.{set_name}: a class is listed twice; remove one")
    return {set_name: [values[member] for member in members] for set_name, members in class_sets.items()}


def set_means(per_class: np.ndarray, sets: Mapping[str, Sequence[int]]) -> dict[str, float]:
    """Mean of (K,) values over each set; NaN values are left out, a set without any other is NaN."""
    return {name: mean_known(per_class[list(members)]) for name, members in sets.items()}
