"""From scores to verdicts: pure functions over arrays.

Scores are fractions; differences, margins and standard deviations are in percentage points. A run is one variant
trained with one seed; `right` says which test digits a run got right.
"""

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower
from statsmodels.stats.weightstats import CompareMeans, DescrStatsW

POINTS = 100  # percentage points of one
ROUNDING = 1e-9  # two scores in points that differ by less are the same score
RESAMPLES_AT_ONCE = 250  # bounds the memory: with 10,000 unlike digits, 20 MB for each array
MOST_EXACT = 40  # seeds; two halves of 2^20 sums of signs each
POWER_GRID = 1000  # quantiles over which the power of an equivalence test is averaged


@dataclass(frozen=True)
class Interval:
    low: float
    high: float


@dataclass(frozen=True)
class VarianceSplit:
    """What one run's score owes to chance, as standard deviations in points; their squares add up to its variance.

    Attributes:
        seeds: how far seeds differ over all digits there could be.
        digits: how far draws of the test digits differ for a variant averaged over all seeds.
        interaction: the rest: which seed fails on which digit.
    """

    seeds: float
    digits: float
    interaction: float


@dataclass(frozen=True)
class Selection:
    """What choosing a step at one seed reports and is worth, as means over seeds; None where it is undefined.

    Attributes:
        reported_by_test: the test score at the seed that chose by test score.
        worth_by_test: the test score of that step at the other seeds.
        worth_by_dev: the same for the step that the dev score chooses.
        optimism: reported_by_test - worth_by_test, in points.
    """

    reported_by_test: float
    worth_by_test: float | None
    worth_by_dev: float | None
    optimism: float | None


@dataclass(frozen=True)
class _Parts:
    """Mean squares of a seeds x digits table: of the seeds, of the digits and of what is left."""

    seeds: float
    digits: float
    rest: float


def mean_interval(values: np.ndarray, confidence: float = 0.95) -> Interval | None:
    """Student's t interval for the mean of values [n], in their unit; None for n < 2.

    "Student" 1908, "The probable error of a mean", Biometrika 6(1). For scores on the same test digits it speaks about
    new seeds and these digits.

    Raises:
        ValueError: values are not one-dimensional or not finite.
    """
    values = _finite(values)
    if len(values) < 2:
        return None
    if np.ptp(values) == 0:
        return Interval(float(values[0]), float(values[0]))
    return _student(values.mean(), values.std(ddof=1) / np.sqrt(len(values)), len(values) - 1, confidence)


def crossed_interval(
    right_a: np.ndarray,
    right_b: np.ndarray,
    generator: np.random.Generator,
    confidence: float = 0.95,
    resamples: int = 2000,
) -> Interval | None:
    """Interval for accuracy of B minus accuracy of A, in points, over new seeds and new digits.

    Seeds and digits are both resampled: the pigeonhole bootstrap of Owen 2007, "The pigeonhole bootstrap", Annals of
    Applied Statistics 1(2), section 3. Its variance is the sum of three parts: one of the reweighted seeds, one of the
    reweighted digits and one of both weights together. For few seeds it is wrong twice. A part is too small by
    (n - 1) / n for its n, which for 10 seeds is a tenth; and what is neither of the seed nor of the digit is in all
    three, so that it counts three times. So each part is measured over the resamples by itself and scaled, and the
    third is subtracted instead of added: that leaves the unbiased estimate of the two-way random model (Searle, Casella
    and McCulloch 1992, "Variance components", chapter 4). The quantile is Student's, with the degrees of freedom of
    Satterthwaite 1946, "An approximate distribution of estimates of variance components", Biometrics Bulletin 2(6).

    Args:
        right_a: bool [seeds, digits], the runs of A.
        right_b: bool [seeds, digits], the runs of B, paired with those of A by row.
        generator: draws the resamples.
        confidence: probability that the interval is to hold the truth.
        resamples: how many.

    Returns:
        None for fewer than two seeds or two digits.

    Raises:
        ValueError: the arrays are not bool, not two-dimensional or not of one shape.
    """
    _check_right(right_a)
    _check_right(right_b)
    if right_a.shape != right_b.shape:
        raise ValueError(f"Expected right_a and right_b of one shape, received {right_a.shape} and {right_b.shape}.")
    interval = _crossed(right_b.astype(np.int8) - right_a.astype(np.int8), generator, confidence, resamples)
    return interval and Interval(POINTS * interval.low, POINTS * interval.high)


def crossed_mean_interval(
    right: np.ndarray, generator: np.random.Generator, confidence: float = 0.95, resamples: int = 2000
) -> Interval | None:
    """Interval for the accuracy of one variant, as a fraction, over new seeds and new digits; see crossed_interval.

    Args:
        right: bool [seeds, digits].
        generator: draws the resamples.
        confidence: probability that the interval is to hold the truth.
        resamples: how many.

    Returns:
        None for fewer than two seeds or two digits.

    Raises:
        ValueError: right is not bool or not two-dimensional.
    """
    _check_right(right)
    return _crossed(right.astype(np.int8), generator, confidence, resamples)


def sign_flip_p(
    differences: np.ndarray, generator: np.random.Generator | None = None, resamples: int = 100_000
) -> float:
    """Two-sided p-value of paired differences [n], in any unit, against "each could as well have the other sign".

    Fisher 1935, "The design of experiments", section 21: the share of all 2^n choices of signs whose sum is as far from
    zero as the one seen. Exact for n <= 40: every sum is one of a choice for the first half of the seeds plus one of a
    choice for the second, and those that reach far enough are counted in the sorted halves. Beyond that, random signs,
    with the choice seen among them (Phipson and Smyth 2010, "Permutation p-values should never be zero",
    Statistical Applications in Genetics and Molecular Biology 9(1)).

    Args:
        differences: float [n].
        generator: draws the signs; only needed for n > 40.
        resamples: how many draws, for n > 40.

    Returns:
        1.0 for n < 2 or when all differences are zero.

    Raises:
        ValueError: differences are not one-dimensional or not finite, or there are more than 40 and no generator.
    """
    differences = _finite(differences)
    seen = abs(differences.sum())
    # Sums of the same numbers in another order differ by rounding; such sums are ties.
    reach = seen - ROUNDING * np.abs(differences).sum()
    if len(differences) < 2 or reach <= 0:
        return 1.0
    if len(differences) > MOST_EXACT:
        if generator is None:
            raise ValueError(
                f"Expected a generator for more than {MOST_EXACT} differences, received {len(differences)} and none."
            )
        return _sampled_sign_flip_p(differences, reach, generator, resamples)
    middle = len(differences) // 2
    first, second = _signed_sums(differences[:middle]), _signed_sums(differences[middle:])
    # For every first sum, the second sums that reach up to it; as many reach down, by symmetry.
    upwards = len(first) * len(second) - int(np.searchsorted(second, reach - first).sum())
    return 2 * upwards / 2 ** len(differences)


def holm(p_values: np.ndarray) -> np.ndarray:
    """P-values [n], corrected for their number; of the same order as those given.

    Holm 1979, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6(2).

    Raises:
        ValueError: p_values are not one-dimensional or not finite.
    """
    p_values = _finite(p_values)
    if len(p_values) == 0:
        return p_values
    return multipletests(p_values, method="holm")[1]


def superiority(a: np.ndarray, b: np.ndarray) -> float:
    """Probability that a run of B [m] beats a run of A [n], ties half: Mann and Whitney's U over n m.

    Vargha and Delaney 2000, "A critique and improvement of the CL common language effect size statistics of McGraw and
    Wong", Journal of Educational and Behavioral Statistics 25(2).

    Raises:
        ValueError: a or b is empty, not one-dimensional or not finite.
    """
    a, b = _finite(a), _finite(b)
    if len(a) == 0 or len(b) == 0:
        raise ValueError(f"Expected at least one run of A and one of B, received {len(a)} and {len(b)}.")
    return float(((b[:, None] > a) + 0.5 * (b[:, None] == a)).mean())


def equivalence_p(differences: np.ndarray, margin: float) -> float | None:
    """P-value for a mean paired difference inside ±margin: two one-sided t tests, the larger of their p-values.

    Schuirmann 1987, "A comparison of the two one-sided tests procedure and the power approach for assessing the
    equivalence of average bioavailability", Journal of Pharmacokinetics and Biopharmaceutics 15(6).

    Args:
        differences: float [n], in points.
        margin: in points.

    Returns:
        None for n < 2. Differences without spread leave no doubt: 0 or 1.

    Raises:
        ValueError: differences are not one-dimensional or not finite.
    """
    differences = _finite(differences)
    if len(differences) < 2:
        return None
    if np.ptp(differences) <= ROUNDING:
        return _without_doubt(differences.mean(), margin)
    return float(DescrStatsW(differences).ttost_mean(-margin, margin)[0])


def reproduction_p(ours: np.ndarray, theirs: np.ndarray, margin: float) -> float | None:
    """P-value for two means inside ±margin of one another: as equivalence_p, for samples that are not paired.

    The spreads may differ: Welch 1947, "The generalization of 'Student's' problem when several different population
    variances are involved", Biometrika 34.

    Args:
        ours: float [n], in points.
        theirs: float [m], in points.
        margin: in points.

    Returns:
        None for n < 2 or m < 2. Two samples without spread leave no doubt: 0 or 1.

    Raises:
        ValueError: ours or theirs are not one-dimensional or not finite.
    """
    ours, theirs = _finite(ours), _finite(theirs)
    if len(ours) < 2 or len(theirs) < 2:
        return None
    if max(np.ptp(ours), np.ptp(theirs)) <= ROUNDING:
        return _without_doubt(ours.mean() - theirs.mean(), margin)
    return float(CompareMeans.from_data(ours, theirs).ttost_ind(-margin, margin, usevar="unequal")[0])


def seeds_needed(
    differences: np.ndarray,
    margin: float,
    *,
    alpha: float,
    alpha_equivalence: float,
    power: float = 0.8,
    most: int = 100_000,
) -> int | None:
    """Number of seeds that would settle a comparison, if mean and spread of the differences seen are the truth.

    The smaller of what a two-sided paired t test needs to find the difference (Cohen 1988, "Statistical power analysis
    for the behavioral sciences", chapter 2) and what two one-sided tests need to find equivalence (Phillips 1990,
    "Power of the two one-sided tests procedure in bioequivalence", Journal of Pharmacokinetics and Biopharmaceutics
    18(2)); for the difference never fewer than let a sign-flip test reach alpha.

    Args:
        differences: float [n], in points.
        margin: of equivalence, in points.
        alpha: level at which the difference is tested.
        alpha_equivalence: level of the two one-sided tests.
        power: probability of settling it.
        most: where to stop looking.

    Returns:
        None for n < 2, or when nothing up to `most` would do.

    Raises:
        ValueError: differences are not one-dimensional or not finite.
    """
    differences = _finite(differences)
    if len(differences) < 2:
        return None
    # All signs alike have the smallest p-value, 2 / 2^n.
    fewest = 1 + int(np.ceil(np.log2(1 / alpha)))
    mean = abs(float(differences.mean()))
    if np.ptp(differences) <= ROUNDING:
        return 2 if mean < margin else fewest if mean > ROUNDING else None
    sd = float(differences.std(ddof=1))

    def first(candidates: range, power_of: Callable[[int], float]) -> int | None:
        index = bisect_left(candidates, power, key=power_of)
        return candidates[index] if index < len(candidates) else None

    found = [
        first(range(fewest, most + 1), lambda n: float(TTestPower().power(mean / sd, n, alpha))),
        first(range(2, most + 1), lambda n: _equivalence_power(n, mean, sd, margin, alpha_equivalence)),
    ]
    return min((n for n in found if n is not None), default=None)


def verdict(
    difference: float, p_holm: float | None, p_equivalence: float | None, alpha: float
) -> Literal["better", "worse", "equivalent", "undecided"]:
    """B against A in a word, from the difference B - A and its p-values; a p-value of None decides nothing.

    Equivalence comes first: a difference inside the margin is not worth having, however sure it is.
    """
    if p_equivalence is not None and p_equivalence < alpha:
        return "equivalent"
    if p_holm is not None and p_holm < alpha:
        return "better" if difference > 0 else "worse"
    return "undecided"


def variance_split(right: np.ndarray) -> VarianceSplit | None:
    """Split of the variance of one run's accuracy into seeds, digits and their interaction.

    Two-way random model without replication, by the analysis of variance: Searle, Casella and McCulloch 1992, "Variance
    components", chapter 4. A component that comes out negative is 0.

    Args:
        right: bool [seeds, digits].

    Returns:
        None for fewer than two seeds or two digits.

    Raises:
        ValueError: right is not bool or not two-dimensional.
    """
    _check_right(right)
    seeds, digits = right.shape
    if seeds < 2 or digits < 2:
        return None
    parts = _mean_squares(right)
    of_seeds = max(0.0, parts.seeds - parts.rest) / digits
    of_digits = max(0.0, parts.digits - parts.rest) / seeds
    # A score is a mean over the digits, which divides what differs from digit to digit.
    return VarianceSplit(
        seeds=POINTS * of_seeds**0.5,
        digits=POINTS * (of_digits / digits) ** 0.5,
        interaction=POINTS * (parts.rest / digits) ** 0.5,
    )


def calibration_error(images: np.ndarray, confidence: np.ndarray, accuracy: np.ndarray) -> float:
    """Expected calibration error, as a fraction.

    Guo et al. 2017, "On calibration of modern neural networks", ICML, section 2, equation 3.

    Args:
        images: number of images in each bin, [bins].
        confidence: their mean probability, [bins].
        accuracy: the share of them that is right, [bins].

    Raises:
        ValueError: the arrays are not of one length, or there are no images.
    """
    images, confidence, accuracy = _finite(images), _finite(confidence), _finite(accuracy)
    if not len(images) == len(confidence) == len(accuracy) or images.sum() <= 0:
        raise ValueError(
            f"Expected images in bins of one number, received {images.sum():g} images and "
            f"{len(images)}, {len(confidence)} and {len(accuracy)} bins."
        )
    return float(np.average(np.abs(confidence - accuracy), weights=images))


def selection(test: np.ndarray, dev: np.ndarray) -> Selection:
    """What it costs to choose a step of a chain by its test score at one seed, and what choosing by dev score is worth.

    A choice made on the scores that it then reports is optimistic: Cawley and Talbot 2010, "On over-fitting in model
    selection and subsequent selection bias in performance evaluation", JMLR 11. Of equal scores, the first step is
    chosen. What a choice is worth is seen at the other seeds.

    Args:
        test: float [steps, seeds], test scores.
        dev: float [steps, seeds], dev scores; a row of NaN for a step without dev split.

    Raises:
        ValueError: the arrays are empty, not of one shape, test scores are missing, or a step has dev scores for some
            seeds only.
    """
    if test.shape != dev.shape or test.ndim != 2 or test.size == 0:
        raise ValueError(f"Expected test and dev of one shape [steps, seeds], received {test.shape} and {dev.shape}.")
    if not np.isfinite(test).all():
        raise ValueError(f"Expected a test score for every step and seed, received {test.tolist()}.")
    missing = np.isnan(dev)
    if (missing.any(axis=1) != missing.all(axis=1)).any():
        raise ValueError(f"Expected dev scores for all seeds of a step or for none, received {dev.tolist()}.")
    by_test = test.argmax(axis=0)
    reported = float(test[by_test, np.arange(test.shape[1])].mean())
    worth_by_test = _worth_elsewhere(test, by_test)
    worth_by_dev = None
    if not missing.all():
        worth_by_dev = _worth_elsewhere(test, np.where(missing, -np.inf, dev).argmax(axis=0))
    return Selection(
        reported_by_test=reported,
        worth_by_test=worth_by_test,
        worth_by_dev=worth_by_dev,
        optimism=None if worth_by_test is None else POINTS * (reported - worth_by_test),
    )


def _finite(values: np.ndarray) -> np.ndarray:
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or not np.isfinite(values).all():
        raise ValueError(f"Expected finite numbers [n], received {values.tolist()}.")
    return values


def _check_right(right: np.ndarray) -> None:
    if right.ndim != 2 or right.dtype != np.bool_:
        raise ValueError(f"Expected bool [seeds, digits], received {right.dtype} {list(right.shape)}.")


def _student(mean: float, error: float, freedom: float, confidence: float) -> Interval:
    half = float(stats.t.ppf((1 + confidence) / 2, freedom) * error)
    return Interval(float(mean) - half, float(mean) + half)


def _crossed(cells: np.ndarray, generator: np.random.Generator, confidence: float, resamples: int) -> Interval | None:
    """Interval for the mean of cells int8 [seeds, digits] over new seeds and new digits; see crossed_interval."""
    seeds, digits = cells.shape
    if seeds < 2 or digits < 2:
        return None
    parts = _bootstrap_mean_squares(cells, generator, resamples)
    # A component is never negative: neither mean square is less than that of the rest.
    of_seeds, of_digits = max(parts.seeds, parts.rest), max(parts.digits, parts.rest)
    total = of_seeds + of_digits - parts.rest
    if total == 0:
        return Interval(float(cells.mean()), float(cells.mean()))
    freedom = total**2 / (
        of_seeds**2 / (seeds - 1) + of_digits**2 / (digits - 1) + parts.rest**2 / ((seeds - 1) * (digits - 1))
    )
    return _student(cells.mean(), (total / cells.size) ** 0.5, freedom, confidence)


def _bootstrap_mean_squares(cells: np.ndarray, generator: np.random.Generator, resamples: int) -> _Parts:
    """Mean squares of cells int8 [seeds, digits] by the pigeonhole bootstrap."""
    seeds, digits = cells.shape
    # Digits that came out alike in all runs share a weight: most are right everywhere. The sum of the multinomial
    # weights of alike digits is multinomial itself, so that this changes no distribution.
    patterns, alike = np.unique(cells, axis=1, return_counts=True)
    centred = patterns - cells.mean()
    of_seed, of_digit = centred @ alike / digits, centred.mean(axis=0)
    rest = centred - of_seed[:, None] - of_digit
    squares = np.zeros(3)
    for start in range(0, resamples, RESAMPLES_AT_ONCE):
        count = min(RESAMPLES_AT_ONCE, resamples - start)
        seed_weights = generator.multinomial(seeds, np.full(seeds, 1 / seeds), size=count) / seeds
        digit_weights = generator.multinomial(digits, alike / digits, size=count) / digits
        squares += [
            ((seed_weights @ of_seed) ** 2).sum(),
            ((digit_weights @ of_digit) ** 2).sum(),
            (((seed_weights @ rest) * digit_weights).sum(axis=1) ** 2).sum(),
        ]
    seed_part, digit_part, product_part = (float(square) for square in squares / resamples * cells.size)
    of_seeds, of_digits = seeds / (seeds - 1), digits / (digits - 1)
    return _Parts(seed_part * of_seeds, digit_part * of_digits, product_part * of_seeds * of_digits)


def _mean_squares(right: np.ndarray) -> _Parts:
    seeds, digits = right.shape
    mean = right.mean()
    of_seed, of_digit = right.mean(axis=1) - mean, right.mean(axis=0) - mean
    rest = right - mean - of_seed[:, None] - of_digit
    return _Parts(
        float(digits * (of_seed**2).sum() / (seeds - 1)),
        float(seeds * (of_digit**2).sum() / (digits - 1)),
        float((rest**2).sum() / ((seeds - 1) * (digits - 1))),
    )


def _signed_sums(values: np.ndarray) -> np.ndarray:
    """Sums of values [n] under all 2^n choices of signs, sorted."""
    sums = np.zeros(1)
    for value in values:
        sums = np.concatenate([sums - value, sums + value])
    return np.sort(sums)


def _sampled_sign_flip_p(
    differences: np.ndarray, reach: float, generator: np.random.Generator, resamples: int
) -> float:
    far = 0
    for start in range(0, resamples, RESAMPLES_AT_ONCE):
        shape = (min(RESAMPLES_AT_ONCE, resamples - start), len(differences))
        signs = 2 * generator.integers(0, 2, size=shape) - 1
        far += int((np.abs(signs @ differences) >= reach).sum())
    return (far + 1) / (resamples + 1)


def _without_doubt(difference: float, margin: float) -> float:
    return 0.0 if abs(difference) < margin else 1.0


def _equivalence_power(n: int, mean: float, sd: float, margin: float, alpha: float) -> float:
    """Probability that two one-sided t tests find the equivalence, exact but for the grid over the spread seen."""
    freedom = n - 1
    chance = (np.arange(POWER_GRID) + 0.5) / POWER_GRID
    spread_seen = np.sqrt(stats.chi2.ppf(chance, freedom) / freedom)
    error = sd / n**0.5
    # Both tests reject where the mean seen is further than this inside both margins.
    inside = stats.t.ppf(1 - alpha, freedom) * spread_seen
    found = stats.norm.cdf((margin - mean) / error - inside) - stats.norm.cdf((-margin - mean) / error + inside)
    return float(np.maximum(found, 0).mean())


def _worth_elsewhere(test: np.ndarray, chosen: np.ndarray) -> float | None:
    """Mean over seeds of the score, at the other seeds, of the steps [seeds] chosen from test [steps, seeds]."""
    seeds = test.shape[1]
    if seeds < 2:
        return None
    here = test[chosen, np.arange(seeds)]
    return float(((test[chosen].sum(axis=1) - here) / (seeds - 1)).mean())
