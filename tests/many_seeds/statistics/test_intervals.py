"""The interval and its verdict, against values computed independently."""

import itertools
from typing import Any

import numpy as np
import pytest

from many_seeds.comparisons import compare_runs
from many_seeds.results import Settings
from many_seeds.sources.scores import VariantScores
from many_seeds.statistics import intervals
from many_seeds.statistics.intervals import Design, Interval, interval, verdict
from tests import ROOT

RESOLUTION = 0.01  # percentage points: one of 10,000 images
MARGIN = 0.05
TENTHS = np.arange(1, 11) / 10
NEAR = np.array([0.12, 0.05, 0.20, 0.08, 0.15, 0.02, 0.11, 0.17, 0.06, 0.14])
SMALL = np.tile([-0.01, 0.02, 0, 0.01], 25)
SOME = np.random.default_rng(11).normal(0.1, 0.2, 14)


def half(values: np.ndarray, level: float, design: Design = "open") -> float:
    found = interval(values, level=level, resolution=RESOLUTION, design=design)
    assert (found.low + found.high) / 2 == pytest.approx(values.mean())
    return (found.high - found.low) / 2


@pytest.mark.parametrize(
    ("values", "level", "expected"),
    [
        (np.arange(1, 5), 0.2, 2.973869),
        (np.arange(1, 6), 0.05, 5.977306),
        (TENTHS, 0.05, 0.370504),
        (TENTHS, 0.05 / 8, 0.551059),
        (NEAR, 0.05 / 8, 0.104027),
        (np.full(10, 0.04), 0.05 / 8, 0.018201),  # no spread: the floor of one image
        (SMALL, 0.05 / 8, 0.004486),
    ],
)
def test_the_open_interval_has_the_expected_width(values: np.ndarray, level: float, expected: float) -> None:
    assert half(values, level) == pytest.approx(expected, abs=6e-7)


@pytest.mark.parametrize(
    ("values", "level", "expected"),
    [(TENTHS, 0.05, 0.216585), (TENTHS, 0.05 / 8, 0.339552), (np.arange(1, 6), 0.05, 1.963243)],
)
def test_the_interval_of_a_fixed_number_of_seeds_is_students(values: np.ndarray, level: float, expected: float) -> None:
    assert half(values, level, "fixed") == pytest.approx(expected, abs=6e-7)


@pytest.mark.parametrize("values", [np.arange(1, 5), np.array([0.3])])
def test_an_interval_of_too_few_seeds_is_infinite(values: np.ndarray) -> None:
    assert interval(values, level=0.05, resolution=RESOLUTION) == Interval(-np.inf, np.inf)
    assert verdict(interval(values, level=0.05, resolution=RESOLUTION), MARGIN) == "undecided"


def test_one_seed_is_infinite_even_where_the_number_was_fixed() -> None:
    assert interval(np.array([0.3]), level=0.05, resolution=RESOLUTION, design="fixed") == Interval(-np.inf, np.inf)


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        (1, [1.503, 1.224, 1.063, 0.913, 0.766, 0.675, 0.581, 0.469, 0.384, 0.335, 0.276, 0.215]),
        (8, [2.590, 1.820, 1.490, 1.224, 0.989, 0.854, 0.722, 0.572, 0.462, 0.399, 0.326, 0.252]),
        (19, [3.447, 2.143, 1.696, 1.361, 1.082, 0.927, 0.778, 0.612, 0.492, 0.424, 0.345, 0.265]),
    ],
)
def test_the_half_width_in_standard_deviations_falls_with_the_seeds(pairs: int, expected: list[float]) -> None:
    n = np.array([8, 10, 12, 15, 20, 25, 33, 50, 75, 100, 150, 256])
    np.testing.assert_allclose(intervals.half_width(n, 0.05 / pairs), expected, atol=5.1e-4)


def likelihood_ratio(values: np.ndarray, mean: float) -> float:
    """E_n: "mean/sd is drawn from N(0, 1)" against "the mean is this one"."""
    n, away = len(values), values - mean
    squares = (n + 1) * (away**2).sum()
    return (1 / (n + 1)) ** 0.5 * (squares / (squares - away.sum() ** 2)) ** (n / 2)


@pytest.mark.parametrize("level", [0.2, 0.05, 0.05 / 19])
def test_at_both_ends_the_likelihood_ratio_is_one_over_the_level(level: float) -> None:
    found = interval(SOME, level=level, resolution=RESOLUTION)
    assert [likelihood_ratio(SOME, end) for end in (found.low, found.high)] == pytest.approx([1 / level] * 2)
    assert likelihood_ratio(SOME, SOME.mean()) < 1


@pytest.mark.parametrize("design", ["open", "fixed"])
def test_the_interval_moves_with_the_differences_and_mirrors_when_a_and_b_change_places(design: Design) -> None:
    def of(values: np.ndarray, level: float = 0.05) -> np.ndarray:
        found = interval(values, level=level, resolution=RESOLUTION, design=design)
        return np.array([found.low, found.high])

    np.testing.assert_allclose(of(SOME + 3), of(SOME) + 3)
    np.testing.assert_allclose(of(7 * SOME), 7 * of(SOME))
    np.testing.assert_allclose(of(-SOME), -of(SOME)[::-1])
    assert np.ptp(of(SOME, 0.01)) > np.ptp(of(SOME, 0.05))


@pytest.mark.parametrize("values", [[], [[0.1]], [0.1, np.nan], [np.inf, 0.1]])
def test_invalid_differences_are_refused(values: list[float]) -> None:
    with pytest.raises(ValueError, match="Expected finite numbers"):
        interval(np.array(values), level=0.05, resolution=RESOLUTION)


@pytest.mark.parametrize("design", ["open", "fixed"])
@pytest.mark.parametrize("values", [[0.5] * 10, [0.0] * 10, [0.1 + 0.2, 0.3] * 5])
def test_equal_values_without_a_resolution_have_an_infinite_interval(values: list[float], design: Design) -> None:
    assert interval(values, design=design) == Interval(-np.inf, np.inf)
    assert np.isfinite(interval(values, resolution=RESOLUTION, design=design).low)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"level": 1.5}, "Expected 0 < level < 1, received 1.5"),
        ({"resolution": -0.1}, "Expected a resolution of 0 or more, received -0.1"),
        ({"resolution": np.nan}, "Expected a resolution of 0 or more, received nan"),
        ({"design": "closed"}, "Expected the design open or fixed, received 'closed'"),
    ],
)
def test_an_interval_with_a_setting_out_of_range_is_refused(options: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        interval(SOME, **options)


@pytest.mark.parametrize("level", [0, 1, -0.1])
def test_a_level_out_of_range_is_refused(level: float) -> None:
    with pytest.raises(ValueError, match="0 < level < 1"):
        intervals.half_width(10, level)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (-0.04, 0.04, "equivalent"),
        (0.01, 0.04, "equivalent"),  # surely not 0, and negligible
        (0.01, 0.05, "better"),
        (-0.05, -0.01, "worse"),
        (0.0, 0.3, "undecided"),
        (-0.06, 0.04, "undecided"),
        (-np.inf, np.inf, "undecided"),
    ],
)
def test_the_verdict_is_read_off_the_interval(low: float, high: float, expected: str) -> None:
    assert verdict(Interval(low, high), MARGIN) == expected


@pytest.mark.parametrize(
    ("values", "pairs", "expected"),
    [
        (TENTHS, 1, "better"),
        (TENTHS, 8, "undecided"),
        (NEAR, 8, "better"),
        (-NEAR, 8, "worse"),
        (np.full(10, 0.04), 8, "better"),
        (SMALL, 8, "equivalent"),
    ],
)
def test_the_verdicts_are_as_computed_independently(values: np.ndarray, pairs: int, expected: str) -> None:
    assert verdict(interval(values, level=0.05 / pairs, resolution=RESOLUTION), MARGIN) == expected


def test_each_look_has_a_quarter_more_seeds_and_at_least_as_many_as_workers() -> None:
    assert list(itertools.islice(intervals.looks(10), 6)) == [13, 17, 22, 28, 35, 44]
    assert list(itertools.islice(intervals.looks(10, at_least=8), 4)) == [18, 26, 34, 43]


def test_the_projection_is_the_first_look_with_a_verdict_if_mean_and_spread_stay() -> None:
    level = 0.05 / 19
    # f(12) = 1.696 and f(13) = 1.56 standard deviations: 0.252 / 0.161 = 1.565.
    assert intervals.projected_seeds(10, 0.252, 0.161, level=level, margin=MARGIN) == 13
    assert intervals.projected_seeds(10, -0.252, 0.161, level=level, margin=MARGIN) == 13
    # Nothing but equivalence can be found where there is no difference: f(n) < 0.05 / 0.11.
    about = intervals.projected_seeds(10, 0.0, 0.11, level=level, margin=MARGIN)
    assert about is not None
    assert float(intervals.half_width(about, level)) < 0.05 / 0.11 < float(intervals.half_width(about * 4 // 5, level))
    assert intervals.worst_case_seeds(10, 0.11, level=level, margin=MARGIN) == 422
    assert intervals.worst_case_seeds(10, 100.0, level=level, margin=MARGIN) is None


def test_intervals_by_n_are_those_of_the_first_values() -> None:
    values = 98 + np.random.default_rng(0).normal(0, 0.1, 40)
    low, high = intervals.intervals_by_n(values, level=0.01, resolution=0.001)
    for n in range(1, 41):
        expected = interval(values[:n], level=0.01, resolution=0.001)
        assert (low[n - 1], high[n - 1]) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_the_running_interval_is_nested_in_n_and_monotone_in_the_level() -> None:
    values = np.random.default_rng(0).normal(0, 1, 60)
    before = Interval(-np.inf, np.inf)
    for n in range(2, 61):
        found = intervals.running_interval(values[:n], level=0.05)
        plain = interval(values[:n], level=0.05)
        assert before.low - 1e-12 <= found.low <= found.high <= before.high + 1e-12  # rounding
        assert plain.low <= found.low <= found.high <= plain.high
        wider = intervals.running_interval(values[:n], level=0.01)
        assert wider.low <= found.low <= found.high <= wider.high
        before = found


def test_the_running_interval_of_swapped_variants_is_mirrored() -> None:
    values = np.random.default_rng(0).normal(0, 1, 20)
    found = intervals.running_interval(values, level=0.05)
    assert intervals.mirrored(intervals.running_interval(-values, level=0.05)) == found


def test_the_running_interval_of_contradicting_values_is_empty() -> None:
    values = np.r_[np.random.default_rng(0).normal(0, 0.01, 20), np.full(400, 5.0)]
    found = intervals.running_interval(values, level=0.05)
    assert found.low > found.high


def test_equal_values_at_the_start_do_not_make_the_running_interval_a_point() -> None:
    values = np.array([1.0, 1, 1, 1, 1, 0, 1, 0, 1, 1])
    found = intervals.running_interval(values, level=0.05)
    assert found.low < values.mean() < found.high
    rounded = np.where(values == 1, 1 - 1e-16 * (np.arange(10) % 2), values)
    again = intervals.running_interval(rounded, level=0.05, rounding=1e-15)
    assert (again.low, again.high) == pytest.approx((found.low, found.high))


def test_welchs_interval_of_two_samples() -> None:
    # Variances 2 and 2: error sqrt(2/2 + 2/2), 2 degrees of freedom, quantile 4.302653.
    found = intervals.welch_interval(np.array([0.0, 2.0]), np.array([1.0, 3.0]), level=0.05, resolution=RESOLUTION)
    assert (found.low, found.high) == pytest.approx((1 - 4.302653 * 2**0.5, 1 + 4.302653 * 2**0.5))
    # No spread, so the floor of 1 in both: error sqrt(1/2 + 1/2), 2 degrees of freedom, quantile 0.816497.
    found = intervals.welch_interval(np.array([0.0, 0.0]), np.array([1.0, 1.0]), level=0.5, resolution=1.0)
    assert (found.low, found.high) == pytest.approx((1 - 0.816497, 1 + 0.816497), abs=1e-6)


def test_welchs_interval_of_one_value_is_infinite() -> None:
    one, two = np.array([98.0]), np.array([98.0, 98.1])
    assert intervals.welch_interval(one, two, level=0.05, resolution=RESOLUTION) == Interval(-np.inf, np.inf)
    assert intervals.welch_interval(two, one, level=0.05, resolution=RESOLUTION) == Interval(-np.inf, np.inf)


@pytest.mark.usefixtures("committed_study")
@pytest.mark.pipeline
@pytest.mark.parametrize(
    ("a", "b", "difference", "low", "high", "expected", "projected"),
    [
        ("mlp_reference", "mlp_tuned", 0.432, 0.023, 0.841, "better", None),
        ("cnn_reference", "cnn_tuned", 0.285, 0.057, 0.513, "better", None),
        ("mlp_tuned", "cnn_tuned", 0.998, 0.834, 1.162, "better", None),
        ("mlp_1_wider", "mlp_2_ten_epochs", 0.252, -0.094, 0.598, "undecided", 13),
        ("mlp_tuned", "mlp_8_batch_512", -0.089, -0.192, 0.014, "undecided", 13),
    ],
)
def test_ten_seeds_of_the_study_give_the_expected_results_of_five_pairs(
    a: str, b: str, difference: float, low: float, high: float, expected: str, projected: int | None
) -> None:
    from stages.study import files, paths

    scores = {}
    for name in (a, b):
        arrays = files.read_arrays(ROOT / paths.predictions_path(name))
        scores[name] = 100 * (arrays["labels"] == arrays["truth"])[:10].mean(axis=1)
    runs = [VariantScores(np.arange(10), scores[name]) for name in (a, b)]
    found = compare_runs(a, b, *runs, level=0.05 / 19, settings=Settings(margin=MARGIN, resolution=RESOLUTION))
    assert found.n == 10
    assert (found.difference, found.low, found.high) == pytest.approx((difference, low, high), abs=6e-4)
    assert (found.verdict, found.seeds_projected) == (expected, projected)
    assert (found.seeds_worst_case is None) == (expected != "undecided")


def test_a_pair_of_one_seed_has_a_difference_and_no_projection() -> None:
    runs = [VariantScores(np.arange(1), np.array([score])) for score in (0.0, 100.0)]
    found = compare_runs("a", "b", *runs, level=0.05, settings=Settings(margin=MARGIN, resolution=25))
    assert (found.n, found.difference, found.verdict) == (1, 100, "undecided")
    assert (found.seeds_projected, found.seeds_worst_case) == (None, None)
