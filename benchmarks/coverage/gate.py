"""A gate that judges many changes, one after the other."""

import numpy as np

from benchmarks.coverage.shared import (
    FIRST,
    LEVEL,
    MOST,
    QUARTER,
    SD,
    STEP,
    Section,
    errors,
    first_verdicts,
    in_parts,
    moments,
    percent,
    plain_codes,
    wrong,
)
from many_seeds.statistics import intervals

CHANGES = 100  # in a year
LEVELS = {"α for each change": LEVEL, f"α / {CHANGES} (`--among {CHANGES}`)": LEVEL / CHANGES}
FIXED, OPEN = f"{FIRST} seeds, fixed in advance", f"{FIRST} to {MOST} seeds, a quarter more each time"
AT_ONCE = 100  # years; bounds the memory


def sections(studies: int) -> list[Section]:
    return [section(in_parts(simulate, [2026, 4], studies, AT_ONCE))]


def simulate(generator: np.random.Generator, years: int) -> dict[str, np.ndarray]:
    """Changes without an effect, each compared on its own.

    Returns:
        For each level and design, whether each year has a wrong verdict, bool [years].
    """
    differences = generator.normal(0, SD, (years, CHANGES, MOST))
    mean, sd = moments(differences, np.array([FIRST]))
    found = {}
    for name, level in LEVELS.items():
        half = intervals.half_width(FIRST, level, "fixed") * np.maximum(sd, STEP)
        found[f"{name}, {FIXED}"] = (np.abs(mean) > half).any(axis=(1, 2))
        verdicts = first_verdicts(plain_codes(differences, QUARTER, level))
        found[f"{name}, {OPEN}"] = wrong(verdicts, 0).any(axis=1)
    return found


def section(found: dict[str, np.ndarray]) -> Section:
    lines = [["level", FIXED, OPEN]]
    lines += [[name, *(errors(found[f"{name}, {design}"]) for design in (FIXED, OPEN))] for name in LEVELS]
    each, among = LEVELS
    return Section(
        "A gate for many changes",
        f"Share of years with any wrong verdict, of {CHANGES} changes a year; none has an effect (sd {SD:g} percentage "
        "points).",
        lines,
        f"With `--among {CHANGES}`, {percent(found[f'{among}, {FIXED}'])} of years have a wrong verdict at a number of "
        f"seeds fixed in advance, instead of {percent(found[f'{each}, {FIXED}'])}.",
    )
