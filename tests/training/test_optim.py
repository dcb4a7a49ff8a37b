"""The schedule of the lr against its formula, step by step."""

import pytest

from sfc.training.optim import poly


@pytest.mark.parametrize("steps", [1, 7, 250])
@pytest.mark.parametrize("power", [0.0, 0.9, 2.0])
def test_without_hold_it_is_the_released_schedule_to_the_last_bit(steps, power):
    factor = poly(steps, power)
    assert [factor(s) for s in range(steps)] == [(1 - s / steps) ** power for s in range(steps)]


@pytest.mark.parametrize(
    ("steps", "hold", "held"), [(10, 0.25, 2), (279, 0.5, 140), (7, 0.9, 6), (5, 1.0, 5), (1, 0.4, 0)]
)
def test_full_lr_is_held_and_then_falls_over_the_rest(steps, hold, held):
    factor, expected = poly(steps, 0.9, hold=hold), []
    for step in range(steps):
        left = steps - step  # the decay ends at 0 one step after the last
        expected.append(1.0 if step < held else (left / (steps - held)) ** 0.9)
    assert [factor(s) for s in range(steps)] == pytest.approx(expected, rel=1e-12)
    assert expected[:held] == [1.0] * held


def test_the_factors_add_up_to_what_is_said_of_them():
    for steps, hold, total in [(3966, 0.0, 2088), (279, 0.0, 147), (279, 0.5, 213), (279, 1.0, 279)]:
        assert sum(map(poly(steps, 0.9, hold=hold), range(steps))) == pytest.approx(total, abs=1)
        assert steps * (hold + (1 - hold) / 1.9) == pytest.approx(total, abs=1)
