"""Races: the runs that they save, and how often the winner is a wrong one."""

import time
from collections.abc import Callable, Mapping

import numpy as np

from benchmarks.coverage.shared import FIRST, LEVEL, MARGIN, MOST, QUARTER, STEP, Section, errors, percent
from many_seeds.races import standing

VARIANTS = 20
SD = 0.06  # of a variant between seeds, in points
WORLDS: dict[str, Callable[[np.random.Generator], np.ndarray]] = {  # to the true means, in points
    "normal, sd 0.1": lambda generator: generator.normal(0, 0.1, VARIANTS),
    "normal, sd 0.02": lambda generator: generator.normal(0, 0.02, VARIANTS),
    "one best, by 0.051": lambda _: np.where(np.arange(VARIANTS) == 0, 0.051, 0),
    "all equal": lambda _: np.zeros(VARIANTS),
}


def sections(studies: int) -> list[Section]:
    found = {}
    for place, (name, world) in enumerate(WORLDS.items()):
        start = time.monotonic()
        found[name] = simulate(np.random.default_rng([2026, 5, place]), studies, world)
        print(f"races, true means {name}: {time.monotonic() - start:.0f} s", flush=True)
    return [section(found)]


def simulate(
    generator: np.random.Generator, races: int, world: Callable[[np.random.Generator], np.ndarray]
) -> dict[str, np.ndarray]:
    """Races of variants whose true means are drawn from a world.

    Returns:
        Arrays [races]: seeds at the end, runs, whether the seeds were used up, and whether the winner is worse than the
        best variant by more than the margin.
    """
    results = [race(generator, world(generator)) for _ in range(races)]
    return {name: np.array([result[name] for result in results]) for name in results[0]}


def race(generator: np.random.Generator, truths: np.ndarray) -> Mapping[str, float]:
    scores = truths[:, None] + generator.normal(0, SD, (VARIANTS, MOST))
    names = [str(variant) for variant in range(VARIANTS)]
    found = standing(
        dict(zip(names, scores, strict=True)), level=LEVEL, margin=MARGIN, resolution=STEP, first_seed=0, most=MOST
    )
    ends = [*(out.n for out in found.eliminated.values()), *(found.n for _ in found.in_race)]
    seeds = QUARTER[np.searchsorted(QUARTER, ends)]  # a variant is trained up to the look at which it is out
    return {
        "seeds": int(seeds.max()),
        "runs": int(seeds.sum()),
        "used up": found.reason == "seeds used up",
        "wrong": bool(truths[names.index(str(found.leader))] < truths.max() - MARGIN),
    }


def section(found: Mapping[str, Mapping[str, np.ndarray]]) -> Section:
    lines = [["true means", "seeds at the end", "runs", "fewer than with the same seeds for all"]]
    lines[0] += ["seeds used up", "wrong winner"]
    saved = {}
    for name, of in found.items():
        saved[name] = 100 * (1 - of["runs"].sum() / (VARIANTS * of["seeds"].sum()))
        row = [f"{of['seeds'].mean():.0f}", f"{of['runs'].mean():.0f}", f"{saved[name]:.0f} %"]
        lines.append([name, *row, percent(of["used up"]), errors(of["wrong"])])
    first, second, *_, last = saved.values()
    most = max(of["wrong"].mean() for of in found.values())
    return Section(
        "A race: which variant is best?",
        f"""\
Races of {VARIANTS} variants, sd {SD:g} between seeds, with seeds added from {FIRST} on, a quarter more each
time, only to variants in the race, up to {MOST}. Each pair is compared at level α / {VARIANTS - 1}, with the
running intersection. Wrong winner: worse than the best variant by more than the margin.""",
        lines,
        f"A race needs {first:.0f} % fewer runs than the same number of seeds for all variants where their means "
        f"scatter by 0.1, {second:.0f} % where they scatter by 0.02, and {last:.0f} % where all are equal; at most "
        f"{100 * most:.2f} % of winners are wrong.",
    )
