"""Outliers among runs, and the sign test that a verdict with outliers needs."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from many_seeds.comparisons import compare_runs
from many_seeds.results import Result, Settings
from many_seeds.sources.scores import VariantScores
from many_seeds.statistics.outliers import outliers, sign_test

SETTINGS = Settings(margin=0.05, resolution=0.01, ordered=True)
NOISE = np.random.default_rng(0).normal(0, 0.1, (2, 40))


def compared(a: np.ndarray, b: np.ndarray, **changes: Any) -> Result:
    settings = replace(SETTINGS, **changes)
    runs = [VariantScores(np.arange(len(scores)), scores) for scores in (a, b)]
    return compare_runs("a", "b", *runs, level=0.05, settings=settings)


def test_a_diverged_run_is_an_outlier_from_ten_runs_on() -> None:
    scores = np.r_[98 + NOISE[0, :9], 10.0]
    assert outliers(scores, 0.01).tolist() == [False] * 9 + [True]
    assert not outliers(scores[1:], 0.01).any()


def test_normal_scores_rarely_have_an_outlier() -> None:
    studies = np.random.default_rng(1).normal(98, 0.1, (2000, 10))
    assert np.mean([outliers(scores, 0.01).any() for scores in studies]) == pytest.approx(0.012, abs=0.008)


def test_scores_within_ten_times_the_resolution_are_no_outliers() -> None:
    scores = np.r_[np.full(9, 98.0), 98.1]
    assert not outliers(scores, 0.01).any()
    assert outliers(scores, 0.001).any()
    assert not outliers(np.r_[np.full(9, 0.1 + 0.2), 0.3], 0.0).any()  # equal but for rounding


def test_outliers_of_several_variants_are_those_of_each() -> None:
    scores = 98 + NOISE.reshape(4, 20)
    scores[1, 3] = 10.0
    assert outliers(scores, 0.01).tolist() == [outliers(of, 0.01).tolist() for of in scores]


def test_the_sign_test_needs_thirteen_differences_of_one_sign_at_a_level_of_0_002() -> None:
    assert [sign_test(sign * np.ones(13), 0.002) for sign in (1, -1)] == [1, -1]
    assert sign_test(np.ones(12), 0.002) == 0
    assert sign_test(np.r_[np.ones(12), 0, 0, 0], 0.002) == 0  # ties do not count


def test_the_sign_test_is_wrong_with_its_level_at_most_at_any_number_of_seeds() -> None:
    signs = np.random.default_rng(2).choice([-1.0, 1.0], (500, 60))
    wrong = [any(sign_test(of[:n], 0.05) for n in range(1, 61)) for of in signs]
    assert np.mean(wrong) < 0.05


def test_a_better_variant_that_diverges_once_is_undecided() -> None:
    b = 98.25 + NOISE[1]
    b[17] = 10.0
    found = compared(98 + NOISE[0], b)
    assert (found.verdict, found.outliers) == ("undecided", 1)


def test_a_variant_with_an_outlier_is_worse_if_interval_and_signs_say_so() -> None:
    b = 90 + NOISE[1]
    b[17] = 85.0
    found = compared(98 + NOISE[0], b)
    assert (found.verdict, found.outliers) == ("worse", 1)
    back = compared(b, 98 + NOISE[0])
    assert (back.verdict, back.low) == ("better", pytest.approx(-found.high))
    assert compared(98 + NOISE[0], b, lower_is_better=True).verdict == "better"


def test_an_interval_with_an_outlier_never_shows_equivalence() -> None:
    a = 98 + NOISE[0] / 100
    assert compared(a, a + 0.001).verdict == "equivalent"
    b = a.copy()
    a[5] = b[5] = 97.0  # an outlier of both, so that every difference is small
    found = compared(a, b)
    assert (found.verdict, found.outliers) == ("undecided", 2)


def test_a_pair_with_an_outlier_has_no_running_intersection() -> None:
    differences = np.r_[np.full(20, 0.3), np.zeros(20)] + NOISE[1] / 10
    b = 98 + NOISE[0] + differences
    narrow = compared(98 + NOISE[0], b)
    b[30] = 50.0
    plain = compared(98 + NOISE[0], b)
    assert plain.low == compared(98 + NOISE[0], b, ordered=False).low
    assert narrow.low > compared(98 + NOISE[0], 98 + NOISE[0] + differences, ordered=False).low
