"""The level of each comparison, against values worked by hand."""

import math

import pytest

from many_seeds.statistics.levels import batch_level


@pytest.mark.parametrize(
    ("batch", "size", "expected"),
    [(1, 19, 0.0021052632), (2, 6, 0.00083333333), (2, 1, 0.005), (100, 1, 0.0000010101)],
)
def test_the_first_batch_shares_four_fifths_of_alpha_and_later_ones_less_and_less(
    batch: int, size: int, expected: float
) -> None:
    assert batch_level(batch, size, 0.05) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("batches", [1, 2, 3, 50, 2000])
def test_the_levels_of_any_number_of_batches_add_up_to_alpha_at_most(batches: int) -> None:
    total = math.fsum(7 * batch_level(batch, 7, 0.05) for batch in range(1, batches + 1))
    assert total <= 0.05
    assert total == pytest.approx(0.05 * (1 - 0.2 / batches))


@pytest.mark.parametrize(("batch", "size", "alpha"), [(0, 1, 0.05), (1, 0, 0.05), (1, 1, 0.0), (1, 1, 1.0)])
def test_a_level_of_no_batch_no_comparison_or_no_error_is_refused(batch: int, size: int, alpha: float) -> None:
    with pytest.raises(ValueError, match="Expected a"):
        batch_level(batch, size, alpha)
