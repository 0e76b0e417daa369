"""The interval for new seeds and new test images: values, and properties that its guarantee rests on."""

import math

import numpy as np
import pytest

from many_seeds.statistics import intervals, new_images


# SEQUENTIAL: computed with a fine grid over the angle by independent code.
@pytest.mark.parametrize(
    ("n", "sd", "se", "level", "first", "second"),
    [
        (10, 1.0, 0.0, 0.05, 1.223734, 1.557978),
        (10, 1.0, 0.3, 0.05, 1.223734, 1.697888),
        (10, 1.0, 0.3, 0.002, 2.260770, 3.209631),
        (17, 0.2297, 0.041, 0.002, 0.290055, 0.364294),
        (64, 0.2, 0.03, 0.002, 0.109087, 0.171019),
        (256, 0.2, 0.03, 0.002, 0.053953, 0.136964),
        (2048, 0.2, 0.03, 0.002, 0.019840, 0.118088),
        (4, 1.0, 0.3, 0.05, math.inf, math.inf),
    ],
)
def test_half_widths_of_both_intervals(n: int, sd: float, se: float, level: float, first: float, second: float) -> None:
    assert sd * float(intervals.half_width(n, level)) == pytest.approx(first, abs=1e-6)
    assert new_images.half_width(n, sd, se, level) == pytest.approx(second, abs=1e-6)


@pytest.mark.parametrize("design", ["open", "fixed"])
@pytest.mark.parametrize("level", [0.3, 0.05, 0.002, 1e-6])
@pytest.mark.parametrize("se", [0.0, 0.01, 0.3, 5.0])
def test_the_interval_for_new_images_is_never_narrower(se: float, level: float, design: intervals.Design) -> None:
    for n in (2, 5, 10, 64, 1000):
        assert new_images.half_width(n, 1.0, se, level, design) >= float(intervals.half_width(n, level, design))


def test_a_smaller_level_a_larger_error_and_fewer_seeds_make_it_wider() -> None:
    assert new_images.half_width(20, 1.0, 0.3, 0.01) > new_images.half_width(20, 1.0, 0.3, 0.05)
    assert new_images.half_width(20, 1.0, 0.4, 0.05) > new_images.half_width(20, 1.0, 0.3, 0.05)
    assert new_images.half_width(20, 1.0, 0.3, 0.05) > new_images.half_width(40, 1.0, 0.3, 0.05)


def test_no_number_of_seeds_makes_it_narrower_than_the_error_of_the_images() -> None:
    of_images = 0.3 * math.sqrt(-2 * math.log(0.05))
    assert of_images < new_images.half_width(1_000_000, 1.0, 0.3, 0.05) < 1.01 * of_images


def test_groups_of_one_image_give_the_error_of_independent_images() -> None:
    differences = np.random.default_rng(0).normal(size=100)
    error = new_images.standard_error(differences, resolution=0.0)
    assert error == pytest.approx(differences.std(ddof=1) / 10)
    grouped = new_images.standard_error(differences, resolution=0.0, groups=np.arange(100)[::-1])
    assert grouped == pytest.approx(error)


def test_images_of_one_group_count_as_one() -> None:
    differences = np.repeat(np.random.default_rng(0).normal(size=40), 25)
    grouped = new_images.standard_error(differences, resolution=0.0, groups=np.repeat(np.arange(40), 25))
    single = new_images.standard_error(differences[::25], resolution=0.0)
    assert grouped == pytest.approx(single)


def test_the_error_is_at_least_that_of_two_differing_images() -> None:
    assert new_images.standard_error(np.zeros(400), resolution=0.25) == pytest.approx(0.25 * math.sqrt(2))


@pytest.mark.parametrize("groups", [None, np.arange(60) % 29])
def test_fewer_than_thirty_images_or_groups_have_no_error(groups: np.ndarray | None) -> None:
    differences = np.zeros(60 if groups is not None else 29)
    assert new_images.standard_error(differences, resolution=0.25, groups=groups) is None


def test_the_images_needed_give_a_verdict_with_many_seeds() -> None:
    needed = new_images.images_needed(10_000, 0.06, 0.04, level=0.002, margin=0.05)
    assert needed is not None
    for images, has_verdict in ((needed, True), (int(0.9 * needed), False)):
        half = new_images.half_width(10**9, 0.1, 0.04 * math.sqrt(10_000 / images), 0.002)
        assert (half < 0.0602) == has_verdict
    # An equivalence: the difference is nearer to 0 than to the margin.
    assert new_images.images_needed(10_000, 0.01, 0.04, level=0.002, margin=0.05) == math.ceil(
        10_000 * (0.04 * math.sqrt(-2 * math.log(0.002)) / 0.04) ** 2
    )


def test_no_images_are_needed_where_seeds_give_a_verdict() -> None:
    assert new_images.images_needed(10_000, 0.5, 0.04, level=0.002, margin=0.05) is None
    assert new_images.images_needed(10_000, 0.0, 0.001, level=0.002, margin=0.05) is None
