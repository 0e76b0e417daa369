"""Functions that stand for training code. Workers import this module, so it imports little."""

import math
import os
import time
from pathlib import Path


def score(seed: int, mean: float) -> float:
    return mean + ((37 * seed + round(7919 * mean)) % 11 - 5) * 0.02


def train(seed: int, mean: float) -> float:
    return score(seed, mean)


def never(seed: int, mean: float) -> float:
    raise AssertionError("no run should be missing")


def flaky(seed: int, mean: float) -> float:
    if mean == 3.0 and seed == 4:
        with Path("attempts").open("a") as file:
            file.write("x")
        if not Path("repaired").exists():
            raise RuntimeError("no luck")
    return score(seed, mean)


def broken(seed: int, mean: float) -> float:
    if mean != 3.0:
        return score(seed, mean)
    if seed == 0:
        os._exit(3)
    return math.nan


def slow(seed: int, mean: float) -> float:
    time.sleep(60)
    return 0.0
