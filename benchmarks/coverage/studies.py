"""Studies in which seeds are added until each pair has a verdict: these intervals, and t-tests at each look."""

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from benchmarks.coverage.shared import (
    FIRST,
    LEVEL,
    MARGIN,
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
    wrong,
)
from many_seeds.statistics import intervals
from many_seeds.statistics.intervals import BETTER, EQUIVALENT, UNDECIDED, WORSE

PAIRS = (2, 8, 19)
AT_ONCE = 50  # studies; bounds the memory
LOOKS = {"every seed": np.arange(FIRST, MOST + 1), "a quarter more": QUARTER}
FIXED = (5, 10, 30)  # seeds fixed in advance


@dataclass(frozen=True)
class World:
    """What is true of a study's pairs, and how seeds scatter around it.

    truths: in points; each pair has one of them.
    sds: of a pair's difference between seeds, in points; each study has one of them.
    noise: (generator, shape) to mean 0 and variance 1, of every second variant of the chain.
    share: of a pair's variance that comes from that variant, the rest is normal.
    """

    truths: Sequence[float]
    sds: Sequence[float]
    noise: Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]
    share: float = 0.5


def normal(generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return generator.standard_normal(shape)


def skewed(generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Skewness −1.4: a gamma distribution has 2 / √form."""
    form = (2 / 1.4) ** 2
    return (form - generator.gamma(form, size=shape)) / form**0.5


def outliers(generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """One seed in 20 lies six standard deviations of the others low."""
    chance, depth = 1 / 20, 6
    low = depth * (generator.random(shape) < chance)
    return (generator.standard_normal(shape) - low + depth * chance) / (1 + depth**2 * chance * (1 - chance)) ** 0.5


WORLDS = {
    "null: no pair differs": World([0], [SD], normal),
    "edge: all differ by the margin": World([-MARGIN, MARGIN], [0.05, 0.1], normal),
    "null, skewed": World([0], [SD], skewed, share=0.95),
    "null, outliers": World([0], [SD], outliers, share=0.95),
    "mix": World(
        [0, *(sign * size for size in (0.02, 0.05, 0.1, 0.2, 0.3) for sign in (-1, 1))],
        [0.05, 0.1, 0.15, 0.2, 0.25],
        normal,
    ),
}


def draw(world: World, generator: np.random.Generator, studies: int, pairs: int) -> tuple[np.ndarray, np.ndarray]:
    """Differences [studies, pairs, seeds] of neighbours in a chain of variants, and their truths [studies, pairs]."""
    scores = generator.standard_normal((studies, pairs + 1, MOST)) * (1 - world.share) ** 0.5
    scores[:, ::2] = world.noise(generator, scores[:, ::2].shape) * world.share**0.5
    truths = generator.choice(np.asarray(world.truths, float), (studies, pairs))
    sds = generator.choice(np.asarray(world.sds, float), (studies, 1, 1))
    return sds * np.diff(scores, axis=1) + truths[:, :, None], truths


def former_rule(mean: np.ndarray, sd: np.ndarray, n: np.ndarray) -> np.ndarray:
    """Verdicts [studies, pairs, k] as for a number of seeds fixed in advance, pronounced at each n [k].

    Two one-sided t tests for equivalence, uncorrected; else a t test of each pair, corrected after Holm.
    """
    error = sd / np.sqrt(n)
    reach = np.abs(mean) / error
    order = np.argsort(-reach, axis=1)
    left = mean.shape[1] - np.arange(mean.shape[1])[:, None]  # tests that are left at each of Holm's steps
    rejected = np.take_along_axis(reach, order, axis=1) > stats.t.ppf(1 - LEVEL / (2 * left), n - 1)
    found = np.zeros(mean.shape, bool)
    np.put_along_axis(found, order, np.logical_and.accumulate(rejected, axis=1), axis=1)
    equivalent = np.abs(mean) + stats.t.ppf(1 - LEVEL, n - 1) * error < MARGIN
    codes = np.where(found, np.where(mean > 0, BETTER, WORSE), UNDECIDED)
    return np.where(equivalent, EQUIVALENT, codes)


def ends(codes: np.ndarray, truths: np.ndarray, n: np.ndarray) -> dict[str, np.ndarray]:
    """What became of studies in which each pair stops at its first verdict.

    Args:
        codes: verdicts [studies, pairs, k] at the looks.
        truths: [studies, pairs].
        n: seeds at the looks, [k].

    Returns:
        wrong [studies]: whether any verdict was; seeds and undecided [studies]: means over the pairs.
    """
    decided = codes != UNDECIDED
    first = np.where(decided.any(axis=2), decided.argmax(axis=2), len(n) - 1)
    last = first_verdicts(codes)
    return {
        "wrong": wrong(last, truths).any(axis=1),
        "seeds": n[first].mean(axis=1),
        "undecided": (last == UNDECIDED).mean(axis=1),
    }


def simulate(world: World, generator: np.random.Generator, studies: int, pairs: int) -> dict[str, np.ndarray]:
    """Both rules over the same studies: for each rule and way to look, what `ends` says, and whether intervals held."""
    differences, truths = draw(world, generator, studies, pairs)
    n = np.arange(2, MOST + 1)
    mean, sd = moments(differences, n)
    half = intervals.half_width(n, LEVEL / pairs) * np.maximum(sd, STEP)
    codes = intervals.verdict_codes(mean - half, mean + half, MARGIN)
    former = former_rule(mean, sd, n)
    away = np.abs(mean - truths[:, :, None])
    found = {"hold": (away < half).all(axis=(1, 2))}
    for look, numbers in LOOKS.items():
        at = numbers - n[0]
        found |= {f"{look}, {name}": values for name, values in ends(codes[:, :, at], truths, numbers).items()}
        found |= {f"{look}, former {name}": of for name, of in ends(former[:, :, at], truths, numbers).items()}
    for seeds in FIXED:
        at = seeds - n[0]
        half = intervals.half_width(seeds, LEVEL / pairs, "fixed") * np.maximum(sd[:, :, at], STEP)
        found[f"fixed {seeds}"] = (away[:, :, at] < half).all(axis=1)
    return found


def run(world: World, entropy: Sequence[int], studies: int, pairs: int) -> dict[str, np.ndarray]:
    """As `simulate`, in parts that fit in memory."""
    return in_parts(lambda generator, part: simulate(world, generator, part, pairs), entropy, studies, AT_ONCE)


def sections(studies: int) -> list[Section]:
    """What becomes of studies of each world and number of pairs, with seeds that are added, and fixed in advance."""
    found = {}
    for place, ((name, world), pairs) in enumerate(itertools.product(WORLDS.items(), PAIRS)):
        start = time.monotonic()
        found[name, pairs] = run(world, [2025, place], studies, pairs)
        print(f"{name}, {pairs} pairs: {time.monotonic() - start:.0f} s", flush=True)
    return [added(found), fixed(found)]


def added(found: dict[tuple[str, int], dict[str, np.ndarray]]) -> Section:
    lines = [["what is true", "pairs", "looks at", "wrong verdict", "seeds", "undecided", "all intervals hold"]]
    lines[0] += ["t-test: wrong verdict", "seeds"]
    for (name, pairs), of in found.items():
        for look in LOOKS:
            row = [errors(of[f"{look}, wrong"]), f"{of[f'{look}, seeds'].mean():.0f}"]
            row += [percent(of[f"{look}, undecided"]), percent(of["hold"]), errors(of[f"{look}, former wrong"])]
            lines.append([name, str(pairs), look, *row, f"{of[f'{look}, former seeds'].mean():.0f}"])
    normal_worlds = [of for (name, _), of in found.items() if WORLDS[name].noise is normal]
    most = {kind: max(of[f"every seed, {kind}wrong"].mean() for of in normal_worlds) for kind in ("", "former ")}
    return Section(
        "Seeds added until there is a verdict",
        f"""\
Each variant of a chain is compared with its predecessor from {FIRST} seeds on, at every seed or each time after a
quarter more seeds, until the pair has its first verdict or {MOST} seeds.

- All intervals hold: those of all pairs, at every number of seeds from 2 to {MOST}.
- t-test: at each look, a t-test for a number of seeds fixed in advance, with Holm's correction, and two one-sided
  t-tests for equivalence.
- Null: differences of 0, sd {SD:g} percentage points. Edge: ± {MARGIN:g}, sd 0.05 or 0.1. Mix: 0 to ± 0.3, sd 0.05 to
  0.25.
- Skewed, outliers: 95 % of the variance is from a variant with skewness −1.4, or with 1 seed in 20 lower by six sd.
  The guarantee assumes normal differences, which these are not.""",
        lines,
        f"With normal differences and a look at every seed, {100 * most['']:.1f} % of studies at most have a wrong "
        f"verdict, and up to {100 * most['former ']:.1f} % with t-tests.",
    )


def fixed(found: dict[tuple[str, int], dict[str, np.ndarray]]) -> Section:
    lines = [["what is true", "pairs", *(f"{seeds} seeds" for seeds in FIXED)]]
    for (name, pairs), of in found.items():
        lines.append([name, str(pairs), *(percent(of[f"fixed {seeds}"]) for seeds in FIXED)])
    normal_worlds = [of for (name, _), of in found.items() if WORLDS[name].noise is normal]
    least = min(of[f"fixed {seeds}"].mean() for of in normal_worlds for seeds in FIXED)
    return Section(
        "A number of seeds fixed in advance, one look",
        f"How often all intervals of a study with `design: fixed` hold. Guaranteed: {100 * (1 - LEVEL):g} %.",
        lines,
        f"With normal differences, all intervals hold in {100 * least:.1f} % of studies or more.",
    )
