"""Learning rates by epoch or by step."""

import math
from collections.abc import Callable
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from stages.recipes.shared.recipe import NotNegative, Positive, Strict

ONE_CYCLE_START = 1 / 25  # of the maximum learning rate
ONE_CYCLE_RISE = 0.3  # of all epochs

# From an epoch and its number of steps to the rate of the epoch, or float32 [steps], of each of its steps.
Rates = Callable[[int, int], float | np.ndarray]


class Decay(Strict):
    """Exponential decay: the learning rate times exp(rate · (start − epoch)) from an epoch on.

    Attributes:
        start: that epoch, counted from 0.
        rate: of the decay, per epoch.
    """

    start: Annotated[int, Field(ge=0)]
    rate: Positive


class Schedule(Strict):
    """A learning rate that changes from step to step.

    Attributes:
        shape: "constant"; "cosine", down to 0 (Loshchilov and Hutter 2017, "SGDR", section 3, one period); or
            "one_cycle", a linear rise over 30 % of the epochs and a linear fall to 0 (Smith 2018, "A disciplined
            approach to neural network hyper-parameters", section 4.1).
        warmup: the number of epochs of a linear rise from 0, before the shape begins.
    """

    shape: Literal["constant", "cosine", "one_cycle"]
    warmup: NotNegative = 0.0

    @model_validator(mode="after")
    def _check_warmup(self) -> Self:
        if self.shape == "one_cycle" and self.warmup:
            raise ValueError("one_cycle has its own rise: leave warmup out")
        return self


def by_epoch(learning_rate: float, decay: Decay | None) -> Rates:
    """The learning rate of each epoch.

    Args:
        learning_rate: before the decay.
        decay: from epoch to epoch, or None for a constant rate.
    """

    def rate(epoch: int, steps: int) -> float:
        if decay is None or epoch < decay.start:
            return learning_rate
        return learning_rate * math.exp(decay.rate * (decay.start - epoch))

    return rate


def by_step(learning_rate: float, schedule: Schedule, epochs: int) -> Rates:
    """The learning rate of each step, taken in the middle of the step.

    Args:
        learning_rate: the maximum.
        schedule: how it changes.
        epochs: the number of epochs of the schedule.
    """

    def rates(epoch: int, steps: int) -> np.ndarray:
        time = epoch + (np.arange(steps) + 0.5) / steps
        return (learning_rate * _relative_rates(schedule, time, epochs)).astype(np.float32)

    return rates


def _relative_rates(schedule: Schedule, time: np.ndarray, epochs: int) -> np.ndarray:
    """The rates at `time`, float64 [steps] in epochs, divided by the maximum learning rate."""
    if schedule.shape == "one_cycle":
        peak = ONE_CYCLE_RISE * epochs
        return np.interp(time, [0, peak, epochs], [ONE_CYCLE_START, 1, 0])
    rise = np.minimum(1, time / schedule.warmup) if schedule.warmup else np.ones_like(time)
    if schedule.shape == "constant":
        return rise
    done = np.clip((time - schedule.warmup) / (epochs - schedule.warmup), 0, 1)
    return np.where(time < schedule.warmup, rise, (1 + np.cos(np.pi * done)) / 2)
