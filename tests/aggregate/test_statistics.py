import numpy as np
import pytest
from scipy import stats

from stages.aggregate.statistics import (
    Interval,
    calibration_error,
    crossed_interval,
    crossed_mean_interval,
    equivalence_p,
    holm,
    mean_interval,
    reproduction_p,
    seeds_needed,
    selection,
    sign_flip_p,
    superiority,
    variance_split,
    verdict,
)

# Squares by hand: mean 5/8; rows 1 and 1/4, so 4 * 2 * (3/8)^2 = 9/8; columns 1, 1/2, 1/2, 1/2, so
# 2 * ((3/8)^2 + 3 * (1/8)^2) = 3/8; in all 8 * 5/8 * 3/8 = 15/8, of which 3/8 are left.
# Mean squares: seeds 9/8 over 1, digits 3/8 over 3 = 1/8, rest 3/8 over 3 = 1/8.
SEEDS_DIFFER = np.array([[1, 1, 1, 1], [1, 0, 0, 0]], dtype=bool)


def generator() -> np.random.Generator:
    return np.random.default_rng(7)


def around(middle: float, half: float) -> tuple[float, float]:
    return middle - half, middle + half


def ends(interval: Interval | None) -> tuple[float, float]:
    assert interval is not None
    return interval.low, interval.high


# Intervals


def test_mean_interval_is_students() -> None:
    # Mean 2, sd 1, error 1 / sqrt(3), quantile 4.302653 of 2 degrees of freedom.
    assert ends(mean_interval(np.array([1.0, 2.0, 3.0]))) == pytest.approx(around(2, 4.302653 / 3**0.5))


def test_mean_interval_of_two_seeds_uses_one_degree_of_freedom() -> None:
    # Mean 1, sd sqrt(2), error 1, quantile 12.7062; at 50 % it is tan(pi / 4) = 1.
    assert ends(mean_interval(np.array([0.0, 2.0]))) == pytest.approx(around(1, 12.7062), rel=1e-5)
    assert ends(mean_interval(np.array([0.0, 2.0]), confidence=0.5)) == pytest.approx(around(1, 1))


def test_mean_interval_needs_two_values() -> None:
    assert mean_interval(np.array([0.98])) is None


def test_mean_interval_without_spread_is_a_point() -> None:
    assert mean_interval(np.array([0.1, 0.1, 0.1])) == Interval(0.1, 0.1)


def test_mean_interval_refuses_what_is_not_a_number() -> None:
    with pytest.raises(ValueError, match="nan"):
        mean_interval(np.array([0.98, np.nan]))


def test_crossed_interval_of_seeds_that_agree_is_students_over_the_digits() -> None:
    # Each seed has the differences 1, 0, 0, 0: mean 1/4, sd 1/2, error 1/4, quantile 3.182446 of 3 degrees of freedom.
    right_b = np.tile([True, False, False, False], (5, 1))
    interval = crossed_interval(np.zeros((5, 4), bool), right_b, generator(), resamples=100_000)
    assert ends(interval) == pytest.approx(around(25, 25 * 3.182446), rel=0.02)


def test_crossed_interval_of_digits_that_agree_is_students_over_the_seeds() -> None:
    # The seeds have the differences 1, 0, 0: mean 1/3, sd sqrt(1/3), error 1/3, quantile 4.302653.
    right_b = np.array([[True] * 6, [False] * 6, [False] * 6])
    interval = crossed_interval(np.zeros((3, 6), bool), right_b, generator(), resamples=100_000)
    assert ends(interval) == pytest.approx(around(100 / 3, 100 / 3 * 4.302653), rel=0.02)


def test_crossed_interval_adds_seeds_and_digits_and_counts_the_rest_once() -> None:
    # Mean squares 9/8, 1/8 and 1/8: (9/8 + 1/8 - 1/8) / 8 = (3/8)^2. Satterthwaite's degrees of freedom:
    # 81/64 / (81/64 / 1 + 1/64 / 3 + 1/64 / 3) = 243/245.
    half = stats.t.ppf(0.975, 243 / 245) * 3 / 8
    nothing = np.zeros_like(SEEDS_DIFFER)
    interval = crossed_interval(nothing, SEEDS_DIFFER, generator(), resamples=100_000)
    assert ends(interval) == pytest.approx(around(62.5, 100 * half), rel=0.03)
    of_mean = crossed_mean_interval(SEEDS_DIFFER, generator(), resamples=100_000)
    assert ends(of_mean) == pytest.approx(around(0.625, half), rel=0.03)


def test_crossed_interval_changes_sides_with_its_variants() -> None:
    right_a, right_b = np.random.default_rng(1).random((2, 5, 200)) < 0.9
    low, high = ends(crossed_interval(right_a, right_b, generator()))
    assert ends(crossed_interval(right_b, right_a, generator())) == pytest.approx((-high, -low), rel=0.1)
    assert (low + high) / 2 == pytest.approx(100 * (right_b.mean() - right_a.mean()))


def test_crossed_interval_is_the_same_for_the_same_generator() -> None:
    right_a, right_b = np.random.default_rng(1).random((2, 5, 200)) < 0.9
    assert crossed_interval(right_a, right_b, generator()) == crossed_interval(right_a, right_b, generator())


def test_crossed_intervals_of_identical_predictions_are_points() -> None:
    right = np.tile([True, False, True], (4, 1))
    assert crossed_interval(right, right, generator()) == Interval(0, 0)
    assert crossed_mean_interval(np.ones((4, 3), bool), generator()) == Interval(1, 1)


def test_crossed_intervals_need_two_seeds() -> None:
    right = np.array([[True, False, True]])
    assert crossed_interval(right, ~right, generator()) is None
    assert crossed_mean_interval(right, generator()) is None


def test_crossed_interval_refuses_variants_of_different_seeds() -> None:
    with pytest.raises(ValueError, match=r"\(3, 5\) and \(2, 5\)"):
        crossed_interval(np.ones((3, 5), bool), np.ones((2, 5), bool), generator())


def test_crossed_interval_refuses_labels_in_place_of_right_and_wrong() -> None:
    with pytest.raises(ValueError, match="uint8"):
        crossed_interval(np.ones((3, 5), np.uint8), np.ones((3, 5), bool), generator())


# Sign flips


@pytest.mark.parametrize(
    ("differences", "expected"),
    [
        ([1, 2, 3], 2 / 8),  # only all up and all down reach 6
        ([-1, -2, -3], 2 / 8),
        ([3, 1, -1], 6 / 8),  # 3 of the sums 5, 3, 3, 1 reach 3, and their opposites
        ([1, 2], 2 / 4),
        ([0.1, 0.2, 0.3, -0.3], 12 / 16),  # ties in spite of rounding: all but (±0.1 ∓0.2) + (0.3 - 0.3), twice
        ([0.1, 0.2, -0.3], 1.0),  # a sum of zero but for rounding
        ([0, 0, 0], 1.0),
        ([5], 1.0),
        ([], 1.0),
    ],
)
def test_sign_flip_p_is_the_share_of_signs_that_reach_as_far(differences: list[float], expected: float) -> None:
    assert sign_flip_p(np.array(differences, dtype=float)) == expected


def test_sign_flip_p_agrees_with_scipys_enumeration() -> None:
    differences = np.random.default_rng(3).normal(0.4, 1, 11)
    theirs = stats.permutation_test((differences,), np.mean, permutation_type="samples", n_resamples=np.inf)
    assert sign_flip_p(differences) == pytest.approx(theirs.pvalue)


def test_sign_flip_p_is_exact_for_forty_seeds() -> None:
    assert sign_flip_p(np.ones(40)) == 2 / 2**40


def test_sign_flip_p_of_more_seeds_is_sampled() -> None:
    # 30 of 50 coins fall alike, or more, on one side or the other: twice the binomial tail 0.1013194.
    differences = np.repeat([1.0, -1.0], [30, 20])
    assert sign_flip_p(differences, generator()) == pytest.approx(2 * 0.1013194, abs=0.006)
    assert sign_flip_p(np.ones(50), generator(), resamples=999) == 1 / 1000


def test_sign_flip_p_of_more_seeds_asks_for_a_generator() -> None:
    with pytest.raises(ValueError, match="received 41"):
        sign_flip_p(np.ones(41))


# Families, superiority, equivalence


def test_holm_multiplies_the_smallest_p_by_the_number_of_tests() -> None:
    # 3 * 0.01; 2 * 0.03; 1 * 0.04, but not less than the one before.
    assert holm(np.array([0.01, 0.04, 0.03])) == pytest.approx([0.03, 0.06, 0.06])


def test_holm_stops_at_one() -> None:
    assert holm(np.array([0.7, 0.6])) == pytest.approx([1, 1])


def test_holm_of_an_empty_family_is_empty() -> None:
    assert len(holm(np.array([]))) == 0


def test_superiority_counts_ties_half() -> None:
    # 2 > 1, 2 = 2, 3 > 1, 3 > 2: 3.5 of 4.
    assert superiority(np.array([1.0, 2.0]), np.array([2.0, 3.0])) == 3.5 / 4
    assert superiority(np.array([2.0, 3.0]), np.array([1.0, 2.0])) == 0.5 / 4


def test_superiority_takes_any_number_of_runs() -> None:
    assert superiority(np.array([2.0]), np.array([1.0, 2.0, 3.0, 4.0])) == 2.5 / 4
    assert superiority(np.array([0.9]), np.array([0.9])) == 0.5


def test_superiority_refuses_a_variant_without_runs() -> None:
    with pytest.raises(ValueError, match="received 0 and 1"):
        superiority(np.array([]), np.array([0.9]))


@pytest.mark.parametrize(
    ("differences", "expected"),
    [
        # The tail of Student's t with 2 degrees of freedom is 1/2 - t / (2 sqrt(2 + t^2)); the error is 1 / sqrt(3).
        ([-1, 0, 1], 0.5 - 12**0.5 / (2 * 14**0.5)),  # mean 0, 2 from either margin: t^2 = 12
        ([0, 1, 2], 0.5 - 3**0.5 / (2 * 5**0.5)),  # mean 1, 1 from the nearer margin: t^2 = 3
        ([-2, -1, 0], 0.5 - 3**0.5 / (2 * 5**0.5)),
        ([1, 2, 3], 0.5),  # on the margin
        ([2, 3, 4], 0.5 + 3**0.5 / (2 * 5**0.5)),  # beyond it
        ([-1, 1], 0.5 - np.arctan(2) / np.pi),  # one degree of freedom, error 1, t = 2
    ],
)
def test_equivalence_p_is_the_larger_of_two_one_sided_tests(differences: list[float], expected: float) -> None:
    assert equivalence_p(np.array(differences, dtype=float), margin=2) == pytest.approx(expected)


def test_equivalence_p_without_spread_leaves_no_doubt() -> None:
    assert equivalence_p(np.zeros(3), margin=0.05) == 0
    assert equivalence_p(np.array([0.1 + 0.2, 0.3, 0.3]), margin=0.31) == 0  # spread by rounding only
    assert equivalence_p(np.full(3, 0.05), margin=0.05) == 1


def test_equivalence_p_needs_two_seeds() -> None:
    assert equivalence_p(np.array([0.0]), margin=0.05) is None


def test_reproduction_p_is_welchs() -> None:
    # Variances 2 and 2: error sqrt(2/2 + 2/2), 2 degrees of freedom; 2 from the nearer margin in both: t = sqrt(2).
    expected = 0.5 - 2**0.5 / (2 * 4**0.5)
    assert reproduction_p(np.array([0.0, 2.0]), np.array([0.0, 2.0]), margin=2) == pytest.approx(expected)
    assert reproduction_p(np.array([1.0, 3.0]), np.array([0.0, 2.0]), margin=3) == pytest.approx(expected)
    assert reproduction_p(np.array([0.0, 2.0]), np.array([1.0, 3.0]), margin=3) == pytest.approx(expected)


def test_reproduction_p_allows_one_side_without_spread() -> None:
    # Variances 0 and 2: error 1 and, by Welch, 1 degree of freedom; t = 1 has a tail of 1/2 - arctan(1) / pi.
    assert reproduction_p(np.array([1.0, 1.0]), np.array([0.0, 2.0]), margin=1) == pytest.approx(0.25)


def test_reproduction_p_without_spread_leaves_no_doubt() -> None:
    assert reproduction_p(np.full(2, 98.0), np.full(3, 98.05), margin=0.1) == 0
    assert reproduction_p(np.full(2, 98.0), np.full(3, 98.2), margin=0.1) == 1


def test_reproduction_p_needs_two_values_on_both_sides() -> None:
    assert reproduction_p(np.array([98.0]), np.array([98.0, 98.1]), margin=0.1) is None
    assert reproduction_p(np.array([98.0, 98.1]), np.array([98.0]), margin=0.1) is None


# Seeds needed


def with_mean_and_sd(mean: float, sd: float) -> np.ndarray:
    return np.array([mean - sd / 2**0.5, mean + sd / 2**0.5])


@pytest.mark.parametrize(("mean", "expected"), [(0.5, 34), (-0.5, 34), (0.8, 15)])
def test_seeds_needed_for_a_difference_are_those_of_the_power_tables(mean: float, expected: int) -> None:
    # Paired t test, two-sided, 5 %, power 80 %: effects of 0.5 and 0.8 sd need 34 and 15 pairs.
    assert seeds_needed(with_mean_and_sd(mean, 1), margin=0.001, alpha=0.05, alpha_equivalence=0.05) == expected


@pytest.mark.parametrize("mean", [0.0, 0.1])
def test_seeds_needed_for_equivalence_give_the_power_asked_for(mean: float) -> None:
    n = seeds_needed(with_mean_and_sd(mean, 1), margin=0.5, alpha=0.001, alpha_equivalence=0.05)
    assert n is not None
    studies = np.random.default_rng(5).normal(mean, 1, (40_000, n))
    half = stats.t.ppf(0.95, n - 1) * studies.std(axis=1, ddof=1) / n**0.5
    found = (np.abs(studies.mean(axis=1)) + half < 0.5).mean()
    # One seed more or less moves the power by 0.01.
    assert found == pytest.approx(0.8, abs=0.015)


def test_seeds_needed_are_at_least_what_sign_flips_need() -> None:
    # The smallest p-value is 2 / 2^n: 2 / 64 = 0.031 and 2 / 256 = 0.008.
    assert seeds_needed(with_mean_and_sd(10, 1), margin=0.05, alpha=0.05, alpha_equivalence=0.05) == 6
    assert seeds_needed(with_mean_and_sd(10, 1), margin=0.05, alpha=0.01, alpha_equivalence=0.05) == 8


def test_seeds_needed_without_spread_are_the_fewest() -> None:
    assert seeds_needed(np.array([0.2, 0.2]), margin=0.05, alpha=0.05, alpha_equivalence=0.05) == 6
    assert seeds_needed(np.array([0.0, 0.0]), margin=0.05, alpha=0.05, alpha_equivalence=0.05) == 2


def test_seeds_needed_is_none_when_nothing_would_do() -> None:
    assert seeds_needed(with_mean_and_sd(0.5, 1), margin=0.001, alpha=0.05, most=33, alpha_equivalence=0.05) is None
    assert seeds_needed(with_mean_and_sd(0.5, 1), margin=0.001, alpha=0.05, most=34, alpha_equivalence=0.05) == 34
    assert seeds_needed(np.array([0.0, 0.0]), margin=0, alpha=0.05, alpha_equivalence=0.05) is None


def test_seeds_needed_needs_two_seeds() -> None:
    assert seeds_needed(np.array([0.1]), margin=0.05, alpha=0.05, alpha_equivalence=0.05) is None


# Verdicts


@pytest.mark.parametrize(
    ("difference", "p_holm", "p_equivalence", "expected"),
    [
        (0.3, 0.01, 0.9, "better"),
        (-0.3, 0.01, 0.9, "worse"),
        (0.3, 0.05, 0.9, "undecided"),
        (0.3, None, None, "undecided"),
        (0.3, 0.01, None, "better"),
        (0.01, None, 0.01, "equivalent"),
        (0.01, 0.8, 0.05, "undecided"),
    ],
)
def test_verdict_takes_p_values_under_its_level(
    difference: float, p_holm: float | None, p_equivalence: float | None, expected: str
) -> None:
    assert verdict(difference, p_holm, p_equivalence, alpha=0.05) == expected


def test_verdict_on_a_sure_difference_inside_the_margin_is_equivalent() -> None:
    assert verdict(0.01, 0.001, 0.001, alpha=0.05) == "equivalent"


# Variance, calibration, selection


def test_variance_split_finds_the_seeds() -> None:
    split = variance_split(SEEDS_DIFFER)
    assert split is not None
    assert split.seeds == pytest.approx(50)  # (9/8 - 1/8) / 4 digits = (1/2)^2
    assert split.digits == 0  # 1/8 - 1/8
    assert split.interaction == pytest.approx(100 / 32**0.5)  # 1/8 over 4 digits


def test_variance_split_finds_the_digits() -> None:
    # Mean 5/8; rows 3/4 and 1/2: 4 * 2 * (1/8)^2 = 1/8; columns 1, 1, 1/2, 0: 2 * 44/64 = 11/8; left of 15/8: 3/8.
    split = variance_split(np.array([[1, 1, 1, 0], [1, 1, 0, 0]], dtype=bool))
    assert split is not None
    assert split.seeds == 0  # 1/8 - 1/8
    assert split.digits == pytest.approx(100 / 24**0.5)  # (11/24 - 1/8) / 2 seeds / 4 digits
    assert split.interaction == pytest.approx(100 / 32**0.5)


def test_variance_split_never_goes_below_zero() -> None:
    # Both seeds score 1/2, on opposite digits: nothing but interaction.
    split = variance_split(np.array([[1, 0], [0, 1]], dtype=bool))
    assert split is not None
    assert (split.seeds, split.digits) == (0, 0)
    assert split.interaction == pytest.approx(100 / 2**0.5)  # squares of 4 * 1/4, over 1, over 2 digits


def test_variance_split_of_identical_runs_leaves_only_the_digits() -> None:
    split = variance_split(np.array([[1, 1, 1, 0], [1, 1, 1, 0]], dtype=bool))
    assert split is not None
    assert (split.seeds, split.interaction) == (0, 0)
    assert split.digits == pytest.approx(25)  # as the mean of 1, 1, 1, 0: sd 1/2, error 1/4


def test_variance_split_needs_two_seeds() -> None:
    assert variance_split(np.array([[True, False]])) is None


def test_calibration_error_weighs_bins_by_their_images() -> None:
    # (1 * 0.4 + 3 * 0.2) / 4
    error = calibration_error(np.array([1, 3]), np.array([0.6, 0.9]), np.array([1.0, 0.7]))
    assert error == pytest.approx(0.25)


def test_calibration_error_refuses_bins_without_images() -> None:
    with pytest.raises(ValueError, match="0 images"):
        calibration_error(np.array([]), np.array([]), np.array([]))


TEST = np.array([[0.90, 0.94, 0.92], [0.93, 0.91, 0.92]])


def test_selection_reports_the_best_and_is_worth_the_rest() -> None:
    dev = np.array([[0.8, 0.7, 0.90], [0.9, 0.6, 0.95]])
    found = selection(TEST, dev)
    # By test: steps 1, 0 and, of equals, 0.
    assert found.reported_by_test == pytest.approx((0.93 + 0.94 + 0.92) / 3)
    # At the other seeds: (0.91 + 0.92) / 2, (0.90 + 0.92) / 2, (0.90 + 0.94) / 2.
    assert found.worth_by_test == pytest.approx((0.915 + 0.91 + 0.92) / 3)
    assert found.optimism == pytest.approx(1.5)
    # By dev: steps 1, 0, 1; the last is worth (0.93 + 0.91) / 2.
    assert found.worth_by_dev == pytest.approx((0.915 + 0.91 + 0.92) / 3)


def test_selection_by_dev_chooses_among_steps_with_a_dev_split() -> None:
    found = selection(TEST, np.array([[np.nan] * 3, [0.5, 0.5, 0.5]]))
    # Always step 1: (0.91 + 0.92) / 2, (0.93 + 0.92) / 2, (0.93 + 0.91) / 2.
    assert found.worth_by_dev == pytest.approx((0.915 + 0.925 + 0.92) / 3)


def test_selection_without_any_dev_split_has_no_honest_way() -> None:
    found = selection(TEST, np.full_like(TEST, np.nan))
    assert found.worth_by_dev is None
    assert found.worth_by_test == pytest.approx(0.915)


def test_selection_at_one_seed_has_no_worth() -> None:
    found = selection(TEST[:, :1], TEST[:, :1])
    assert found.reported_by_test == 0.93
    assert (found.worth_by_test, found.worth_by_dev, found.optimism) == (None, None, None)


def test_selection_refuses_a_step_with_dev_scores_for_some_seeds() -> None:
    with pytest.raises(ValueError, match="for all seeds of a step or for none"):
        selection(TEST, np.array([[np.nan, 0.9, 0.9], [0.9, 0.9, 0.9]]))


def test_selection_refuses_missing_test_scores() -> None:
    with pytest.raises(ValueError, match="test score for every step"):
        selection(np.full((1, 2), np.nan), np.ones((1, 2)))
