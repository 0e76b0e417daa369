import math

import numpy as np
import pytest
from pydantic import ValidationError

from stages.recipes.shared.rates import Decay, Schedule, by_epoch, by_step


def shares(schedule: Schedule, epochs: int, steps: int) -> list[float]:
    """The rates of all steps as shares of the highest one."""
    rates = by_step(1.0, schedule, epochs)
    return [float(rate) for epoch in range(epochs) for rate in np.asarray(rates(epoch, steps))]


def test_without_a_decay_the_rate_stays() -> None:
    assert [by_epoch(0.1, None)(epoch, 7) for epoch in range(3)] == [0.1, 0.1, 0.1]


def test_a_decay_begins_after_its_start() -> None:
    found = np.array([by_epoch(0.1, Decay(start=1, rate=0.5))(epoch, 7) for epoch in range(4)])
    np.testing.assert_allclose(found, [0.1, 0.1, 0.1 * math.exp(-0.5), 0.1 * math.exp(-1)])


def test_a_constant_rate_rises_over_its_warmup_from_the_first_step_on() -> None:
    """Two steps an epoch, at 0.25, 0.75, 1.25 … epochs; the warm-up ends after one."""
    assert shares(Schedule(shape="constant", warmup=1.0), epochs=3, steps=2) == [0.25, 0.75, 1, 1, 1, 1]


def test_a_cosine_falls_from_the_highest_rate_to_nothing() -> None:
    expected = [(1 + math.cos(math.pi * share)) / 2 for share in (0.125, 0.375, 0.625, 0.875)]
    np.testing.assert_allclose(shares(Schedule(shape="cosine"), epochs=2, steps=2), expected, rtol=1e-6)


def test_a_cosine_after_a_warmup_falls_over_the_epochs_that_are_left() -> None:
    found = shares(Schedule(shape="cosine", warmup=1.0), epochs=3, steps=2)
    falling = [(1 + math.cos(math.pi * share)) / 2 for share in (0.125, 0.375, 0.625, 0.875)]
    np.testing.assert_allclose(found, [0.25, 0.75, *falling], rtol=1e-6)


def test_one_cycle_rises_over_three_tenths_of_the_epochs_and_falls_to_nothing() -> None:
    """At 0.5 … 9.5 of 10 epochs, in straight lines: from 1/25 to 1 at 3, and to 0 at 10."""
    found = shares(Schedule(shape="one_cycle"), epochs=10, steps=1)
    rising = [0.04 + 0.96 * time / 3 for time in (0.5, 1.5, 2.5)]
    falling = [(10 - time) / 7 for time in (3.5, 4.5, 5.5, 6.5, 7.5, 8.5, 9.5)]
    np.testing.assert_allclose(found, rising + falling, rtol=1e-6)


def test_a_schedule_is_a_share_of_the_learning_rate() -> None:
    np.testing.assert_allclose(by_step(0.2, Schedule(shape="constant", warmup=1.0), 2)(0, 2), [0.05, 0.15], rtol=1e-6)


def test_one_cycle_has_no_second_rise() -> None:
    with pytest.raises(ValidationError, match="one_cycle has its own rise: leave warmup out"):
        Schedule(shape="one_cycle", warmup=1.0)


def test_an_unknown_shape_is_refused_with_those_there_are() -> None:
    with pytest.raises(ValidationError, match="'constant', 'cosine' or 'one_cycle'"):
        Schedule.model_validate({"shape": "linear"})
