"""Learning rates: of each epoch, or of each step."""

import math
from collections.abc import Callable
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from stages.recipes.shared.recipe import NotNegative, Positive, Strict

ONE_CYCLE_START = 1 / 25  # of the highest rate
ONE_CYCLE_RISE = 0.3  # of all epochs

# Of an epoch and its number of steps: the rate of the epoch, or one for each step.
Rates = Callable[[int, int], float | np.ndarray]


class Decay(Strict):
    """Learning rate times exp(rate * (start - epoch)) from epoch `start` on; epochs count from 0."""

    start: Annotated[int, Field(ge=0)]
    rate: Positive


class Schedule(Strict):
    """The learning rate of each step.

    shape: "constant"; "cosine", down to 0 (Loshchilov and Hutter 2017, "SGDR", section 3, one period); or "one_cycle",
        up in a straight line over 30 % of the epochs, and down to 0 (Smith 2018, "A disciplined approach to neural
        network hyper-parameters", section 4.1).
    warmup: epochs in which the rate rises from 0 in a straight line, before the shape begins.
    """

    shape: Literal["constant", "cosine", "one_cycle"]
    warmup: NotNegative = 0.0

    @model_validator(mode="after")
    def _one_rise(self) -> Self:
        if self.shape == "one_cycle" and self.warmup:
            raise ValueError("one_cycle has a rise of its own: leave warmup out")
        return self


def by_epoch(learning_rate: float, decay: Decay | None) -> Rates:
    def rate(epoch: int, steps: int) -> float:
        if decay is None or epoch < decay.start:
            return learning_rate
        return learning_rate * math.exp(decay.rate * (decay.start - epoch))

    return rate


def by_step(learning_rate: float, schedule: Schedule, epochs: int) -> Rates:
    """The rates of `schedule` over `epochs`; a step has the rate at its middle."""

    def rates(epoch: int, steps: int) -> np.ndarray:
        time = epoch + (np.arange(steps) + 0.5) / steps
        return (learning_rate * _share(schedule, time, epochs)).astype(np.float32)

    return rates


def _share(schedule: Schedule, time: np.ndarray, epochs: int) -> np.ndarray:
    """The rates at `time` (in epochs) as a share of the highest one."""
    if schedule.shape == "one_cycle":
        peak = ONE_CYCLE_RISE * epochs
        return np.interp(time, [0, peak, epochs], [ONE_CYCLE_START, 1, 0])
    rise = np.minimum(1, time / schedule.warmup) if schedule.warmup else np.ones_like(time)
    if schedule.shape == "constant":
        return rise
    done = np.clip((time - schedule.warmup) / (epochs - schedule.warmup), 0, 1)
    return np.where(time < schedule.warmup, rise, (1 + np.cos(np.pi * done)) / 2)
