"""The split of a run's variance, against squares by hand."""

import numpy as np
import pytest
from scipy import stats

from stages.aggregate.sections import variance
from stages.aggregate.sections.variance import split
from tests.support import study as made

# Squares by hand: mean 5/8; rows 1 and 1/4, so 4 * 2 * (3/8)^2 = 9/8; columns 1, 1/2, 1/2, 1/2, so
# 2 * ((3/8)^2 + 3 * (1/8)^2) = 3/8; in all 8 * 5/8 * 3/8 = 15/8, of which 3/8 are left.
# Mean squares: seeds 9/8 over 1, digits 3/8 over 3 = 1/8, rest 3/8 over 3 = 1/8.
SEEDS_DIFFER = np.array([[1, 1, 1, 1], [1, 0, 0, 0]], dtype=bool)


def sds(right: np.ndarray) -> tuple[float, float, float]:
    """From the seeds, the digits and their interaction, in points."""
    found = split(right, 0.05)
    assert found is not None
    return found.seeds, found.images, found.interaction


def test_the_split_finds_the_seeds() -> None:
    # (9/8 - 1/8) / 4 digits = (1/2)^2; 1/8 - 1/8; 1/8 over 4 digits.
    assert sds(SEEDS_DIFFER) == pytest.approx((50, 0, 100 / 32**0.5))


def test_the_split_finds_the_digits() -> None:
    # Mean 5/8; rows 3/4 and 1/2: 4 * 2 * (1/8)^2 = 1/8; columns 1, 1, 1/2, 0: 2 * 44/64 = 11/8; left of 15/8: 3/8.
    # 1/8 - 1/8; (11/24 - 1/8) / 2 seeds / 4 digits; 1/8 over 4 digits.
    right = np.array([[1, 1, 1, 0], [1, 1, 0, 0]], dtype=bool)
    assert sds(right) == pytest.approx((0, 100 / 24**0.5, 100 / 32**0.5))


def test_no_part_is_below_zero() -> None:
    # Both seeds score 1/2, on opposite digits: nothing but interaction; squares of 4 * 1/4, over 1, over 2 digits.
    assert sds(np.array([[1, 0], [0, 1]], dtype=bool)) == pytest.approx((0, 0, 100 / 2**0.5))


def test_identical_runs_leave_only_the_digits() -> None:
    # As the mean of 1, 1, 1, 0: sd 1/2, error 1/4.
    assert sds(np.array([[1, 1, 1, 0], [1, 1, 1, 0]], dtype=bool)) == pytest.approx((0, 25, 0))


def test_one_seed_has_nothing_to_split() -> None:
    assert split(np.array([[True, False]]), 0.05) is None


def test_labels_in_place_of_right_and_wrong_are_refused() -> None:
    with pytest.raises(ValueError, match="uint8"):
        split(np.ones((3, 5), np.uint8), 0.05)


def test_the_limits_of_the_seeds_part_are_williams() -> None:
    # Mean squares 9/8 and 1/8 with 1 and 3 degrees of freedom.
    found = split(SEEDS_DIFFER, 0.5)
    assert found is not None
    low, high = (9 / 8 / stats.f.ppf(chance, 1, 3) - 1 / 8 for chance in (0.75, 0.25))
    assert (found.seeds_low, found.seeds_high) == pytest.approx((100 * (low / 4) ** 0.5, 100 * (high / 4) ** 0.5))


def test_the_limits_hold_the_truth_as_often_as_they_say() -> None:
    generator, held = np.random.default_rng(3), 0
    for _ in range(200):
        chance = 0.9 + generator.normal(0, 0.02, (8, 1))  # a seed's sd is 2 points
        found = split(generator.random((8, 2000)) < chance, 0.1)
        assert found is not None
        held += found.seeds_low <= 2 <= found.seeds_high
    assert 0.84 < held / 200 < 0.96


def test_the_table_uses_all_seeds_of_each_variant() -> None:
    runs = made.runs()
    table = variance.table(runs, 0.05)
    assert table["n"].tolist() == [len(variant.correct) for variant in runs.values()]
    assert len({*table["n"]}) > 1
    alone = split(runs["ridge"].correct, 0.05)
    assert alone is not None
    assert table.loc[0, "seeds_sd"] == pytest.approx(alone.seeds)
