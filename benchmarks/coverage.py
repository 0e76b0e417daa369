"""How often the intervals hold the truth, and how often the tests err, on simulated studies whose truth is known.

python -m benchmarks.coverage --seeds 10 --studies 1000
"""

import argparse
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import stats

from stages.aggregate import statistics

# A run gets a digit right when ability + seed + digit + noise > 0, with noise of sd 1. These figures give accuracies of
# 97.9 and 98.4 %, and about the mean squares of seeds, digits and rest that small networks on MNIST show.
ABILITY_A, ABILITY_B = 6.45, 6.75
SHARED_DIGIT_SD = 2.6  # digits that are hard for both variants
OWN_DIGIT_SD = 1.5  # digits that are hard for one of them
ALPHA = 0.05
MARGIN = 1.0  # point; wide beside the noise: there a test of equivalence errs as often as it may


@dataclass(frozen=True)
class Truth:
    """Accuracies as fractions: over new seeds on these digits, and over new seeds and new digits."""

    these_digits: float
    new_digits: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=1000, help="simulated studies for each number of seeds")
    parser.add_argument("--seeds", type=int, nargs="+", default=[10], help="runs per variant in a study")
    parser.add_argument("--digits", type=int, default=2000, help="test digits")
    parser.add_argument("--seed-sd", type=float, default=0.1, help="of the seeds' ability; a digit's noise has 1")
    parser.add_argument("--entropy", type=int, default=2007, help="of the generator")
    arguments = parser.parse_args()
    generator = np.random.default_rng(arguments.entropy)
    print("| what | nominal | seeds | studies | measured | 95 % interval |\n| --- | --- | --- | --- | --- | --- |")
    for seeds in arguments.seeds:
        counts: Counter[tuple[str, str]] = Counter()
        for _ in range(arguments.studies):
            counts.update(dict(outcomes(generator, seeds, arguments.digits, arguments.seed_sd)))
        for (what, nominal), count in counts.items():
            measured = stats.binomtest(count, arguments.studies).proportion_ci()
            print(
                f"| {what} | {nominal} | {seeds} | {arguments.studies} | {100 * count / arguments.studies:.1f} % "
                f"| {100 * measured.low:.1f}–{100 * measured.high:.1f} % |"
            )


def outcomes(
    generator: np.random.Generator, seeds: int, digits: int, seed_sd: float
) -> Iterator[tuple[tuple[str, str], bool]]:
    """One study: what was claimed and its nominal rate, and whether it came to pass."""
    shared = generator.normal(0, SHARED_DIGIT_SD, digits)
    right_a, truth_a = variant(generator, ABILITY_A, shared, seeds, seed_sd)
    right_b, truth_b = variant(generator, ABILITY_B, shared, seeds, seed_sd)
    points_a, points_b = 100 * right_a.mean(axis=1), 100 * right_b.mean(axis=1)
    differences = points_b - points_a
    on_these = 100 * (truth_b.these_digits - truth_a.these_digits)
    on_new = 100 * (truth_b.new_digits - truth_a.new_digits)

    holds = "interval holds the truth: "
    nominal = "95 %"
    yield (
        (holds + "accuracy, these digits", nominal),
        held(statistics.mean_interval(points_a), 100 * truth_a.these_digits),
    )
    yield (holds + "difference, these digits", nominal), held(statistics.mean_interval(differences), on_these)
    yield (
        (holds + "accuracy, new digits too", nominal),
        held(statistics.crossed_mean_interval(right_a, generator), truth_a.new_digits),
    )
    yield (
        (holds + "difference, new digits too", nominal),
        held(statistics.crossed_interval(right_a, right_b, generator), on_new),
    )
    # The scores are moved by what is known of the truth, to where each test errs most.
    errs = "test errs: "
    nominal = "at most 5 %"
    yield (
        (errs + "sign flips find a difference that is 0", nominal),
        below_alpha(statistics.sign_flip_p(differences - on_these)),
    )
    at_margin = MARGIN - on_these
    yield (
        (errs + "equivalence of pairs that differ by the margin", nominal),
        below_alpha(statistics.equivalence_p(differences + at_margin, MARGIN)),
    )
    yield (
        (errs + "reproduction of a mean that differs by the margin", nominal),
        below_alpha(statistics.reproduction_p(points_b + at_margin, points_a, MARGIN)),
    )


def variant(
    generator: np.random.Generator, ability: float, shared: np.ndarray, seeds: int, seed_sd: float
) -> tuple[np.ndarray, Truth]:
    """Runs of one variant, bool [seeds, digits], and its true accuracies.

    Args:
        generator: draws everything but shared.
        ability: mean of the latent score.
        shared: float [digits], the part of the digits that all variants share.
        seeds: number of runs.
        seed_sd: standard deviation of the ability of the runs.
    """
    of_digit = shared + generator.normal(0, OWN_DIGIT_SD, len(shared))
    of_seed = generator.normal(0, seed_sd, (seeds, 1))
    right = ability + of_seed + of_digit + generator.normal(size=(seeds, len(shared))) > 0
    over_seeds = 1 + seed_sd**2
    these = stats.norm.cdf((ability + of_digit) / over_seeds**0.5).mean()
    new = stats.norm.cdf(ability / (over_seeds + SHARED_DIGIT_SD**2 + OWN_DIGIT_SD**2) ** 0.5)
    return right, Truth(float(these), float(new))


def held(interval: statistics.Interval | None, truth: float) -> bool:
    return interval is not None and interval.low <= truth <= interval.high


def below_alpha(p_value: float | None) -> bool:
    return p_value is not None and p_value < ALPHA


if __name__ == "__main__":
    main()
