"""Runs that diverge: verdicts with outliers among the runs of one variant."""

import functools

import numpy as np

from benchmarks.coverage.shared import (
    LEVEL,
    MOST,
    STEP,
    Section,
    errors,
    first_verdicts,
    in_parts,
    percent,
    plain_codes,
    quarter_more,
    running_codes,
    wrong,
)
from many_seeds.statistics.intervals import BETTER, UNDECIDED, WORSE
from many_seeds.statistics.outliers import majorities, outliers

PLAIN, RUNNING = "interval alone", "running intersection alone"
SIGNED, RULE = "running intersection and sign test", "interval and sign test: the rule"
RULES = (PLAIN, RUNNING, SIGNED, RULE)
RUNS = 0.2  # standard deviation of a variant's runs that do not diverge, in points
CHANCE = 1 / 20  # of a run to diverge
DEPTHS = {"6 sd low": 6 * RUNS, "100 sd low": 100 * RUNS}
STARTS = (10, 20, 44)  # seeds at the first look
GAIN, FALL = 0.25, 88.0  # of a variant that is better unless it diverges, in points
AT = (10, 22, 44, 109, 256)  # seeds at which it is judged
PAIRS = 2  # in a study
AT_ONCE = 500  # studies; bounds the memory


def sections(studies: int) -> list[Section]:
    nulls = {
        name: in_parts(functools.partial(null, depth=depth), [2026, 6], studies, AT_ONCE)
        for name, depth in DEPTHS.items()
    }
    return [null_section(nulls), better_section(in_parts(better, [2026, 7], studies, AT_ONCE))]


def codes(a: np.ndarray, b: np.ndarray, looks: np.ndarray, level: float) -> dict[str, np.ndarray]:
    """Verdicts on b [..., k] by each rule, where a pair has an outlier among its runs so far.

    Without an outlier, the rules with a sign test use the running intersection alone.

    Args:
        a: scores, float [..., seeds].
        b: scores of the same shape.
        looks: numbers of seeds, int [k].
        level: of each pair.
    """
    differences = b - a
    positive, negative = (np.cumsum(sign * differences > 0, axis=-1)[..., looks - 1] for sign in (1, -1))
    signs = majorities(positive, negative, level)
    found = [outliers(of[..., :n], STEP).any(axis=-1) for n in looks for of in (a, b)]
    outlying = np.stack([one | other for one, other in zip(found[::2], found[1::2], strict=True)], axis=-1)
    plain, running = plain_codes(differences, looks, level), running_codes(differences, looks, level)
    return {
        PLAIN: plain,
        RUNNING: running,
        SIGNED: np.where(outlying, _confirmed(running, signs), running),
        RULE: np.where(outlying, _confirmed(plain, signs), running),
    }


def _confirmed(verdicts: np.ndarray, signs: np.ndarray) -> np.ndarray:
    agree = ((verdicts == BETTER) & (signs > 0)) | ((verdicts == WORSE) & (signs < 0))
    return np.where(agree, verdicts, UNDECIDED)


def null(generator: np.random.Generator, studies: int, depth: float) -> dict[str, np.ndarray]:
    """Studies of pairs without a difference, where runs of one variant are low by `depth` points once in twenty.

    Returns:
        For each rule and first look, whether a first verdict of each study is wrong, bool [studies]; for `MOST` seeds,
        whether one of the verdicts at all seeds is.
    """
    a, b = generator.normal(0, RUNS, (2, studies, PAIRS, MOST))
    low = generator.random(b.shape) < CHANCE
    b += depth * (CHANCE - low)  # the mean is that of a
    found = {}
    for start in (*STARTS, MOST):
        for rule, verdicts in codes(a, b, np.unique(quarter_more(start)), LEVEL / PAIRS).items():
            found[f"{rule}, {start}"] = np.logical_or.reduce(wrong(first_verdicts(verdicts), 0), axis=1)
    return found


def better(generator: np.random.Generator, studies: int) -> dict[str, np.ndarray]:
    """A variant that is better unless it diverges, and worse on average.

    Returns:
        For each rule and number of seeds, whether it is called better, bool [studies].
    """
    a, b = generator.normal(0, RUNS, (2, studies, MOST))
    b += GAIN - FALL * (generator.random(b.shape) < CHANCE)
    found = codes(a, b, np.array(AT), LEVEL)
    return {f"{rule}, {n}": verdicts[:, k] == BETTER for rule, verdicts in found.items() for k, n in enumerate(AT)}


def null_section(found: dict[str, dict[str, np.ndarray]]) -> Section:
    starts = (*STARTS, MOST)
    lines = [["runs that diverge", "verdict by", *(f"from {start} seeds on" for start in STARTS), f"at {MOST} seeds"]]
    for name, of in found.items():
        for rule in (PLAIN, RUNNING, RULE):
            lines.append([name, rule, *(errors(of[f"{rule}, {start}"]) for start in starts)])
    worst = found[list(DEPTHS)[-1]]
    first, last, running, rule = (
        percent(worst[f"{name}, {start}"])
        for name, start in ((RULE, STARTS[0]), (RULE, STARTS[-1]), (RUNNING, MOST), (RULE, MOST))
    )
    return Section(
        "Runs that diverge: no variant is better",
        f"""\
Share of studies of {PAIRS} pairs with a wrong first verdict, and with a wrong verdict if all have {MOST} seeds.
One run in {1 / CHANCE:.0f} of one variant of each pair is low, by 6 or 100 times the standard deviation of the
others, {RUNS:g}; the means do not differ. Looks up to {MOST} seeds, a quarter more each time. The guarantee
assumes normal differences, which these are not. The rule for outliers is for pairs with an outlier among their
runs so far; other pairs, and most of those with runs that are 6 sd low, get the running intersection.""",
        lines,
        f"Many first verdicts come before a run has diverged, and no rule can prevent them: with runs 100 sd low, "
        f"{first} of studies have a wrong one from {STARTS[0]} seeds on, and {last} from {STARTS[-1]} on; at {MOST} "
        f"seeds, {rule} have a wrong verdict with the rule, and {running} with the running intersection alone.",
    )


def better_section(found: dict[str, np.ndarray]) -> Section:
    lines = [["verdict by", *(f"{n} seeds" for n in AT)]]
    lines += [[rule, *(percent(found[f"{rule}, {n}"]) for n in AT)] for rule in RULES]
    signed, rule = (percent(found[f"{of}, {AT[-1]}"]) for of in (SIGNED, RULE))
    return Section(
        "Runs that diverge: better in nineteen runs of twenty, worse on average",
        f"""\
How often a variant is called better that is better by {GAIN:g}, but {FALL:g} lower in one run in
{1 / CHANCE:.0f}: its mean is lower by {FALL * CHANCE - GAIN:.2f}. Level {100 * LEVEL:g} %.""",
        lines,
        f"At {AT[-1]} seeds, the rule calls it better in {rule} of studies, and the running intersection with a sign "
        f"test, which remembers the seeds before the first diverged run, in {signed}.",
    )
