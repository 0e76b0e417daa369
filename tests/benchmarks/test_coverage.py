"""The simulations of benchmarks/COVERAGE.md, with few studies: each rule keeps a promise that another one breaks."""

import functools
import re

import numpy as np
import pytest

from benchmarks.coverage import __main__ as report
from benchmarks.coverage import diverged, gate, images, later, races, shared, studies
from many_seeds.comparisons import compare_runs
from many_seeds.results import Settings
from many_seeds.sources.scores import VariantScores
from many_seeds.statistics import intervals, new_images
from many_seeds.statistics.intervals import BETTER, UNDECIDED, VERDICTS, WORSE
from tests import ROOT


def above_promise(studies: int) -> float:
    """Four standard errors of 5 % above it."""
    return 0.05 + 4 * (0.05 * 0.95 / studies) ** 0.5


def test_the_noise_of_simulated_seeds_is_what_the_page_says() -> None:
    for noise in (studies.normal, studies.skewed, studies.outliers):
        drawn = noise(np.random.default_rng(1), (1_000_000,))
        assert (drawn.mean(), drawn.std()) == pytest.approx((0, 1), abs=0.01)
    drawn = studies.skewed(np.random.default_rng(1), (1_000_000,))
    assert (drawn**3).mean() == pytest.approx(-1.4, abs=0.03)


def test_simulated_studies_keep_the_promise_that_the_former_rule_breaks() -> None:
    for world in ("null: no pair differs", "edge: all differ by the margin"):
        found = studies.run(studies.WORLDS[world], [1], 300, 8)
        assert found["hold"].mean() > 0.92
        for look in studies.LOOKS:
            # Four standard errors of 5 % above it.
            assert found[f"{look}, wrong"].mean() < 0.10
            assert found[f"{look}, former wrong"].mean() > 0.20


def test_a_simulated_pair_gets_the_interval_of_the_study() -> None:
    differences = np.random.default_rng(2).normal(0.2, 0.1, (1, 1, 40))
    n = np.array([12, 40])
    mean, sd = shared.moments(differences, n)
    half = intervals.half_width(n, 0.05 / 8) * np.maximum(sd, shared.STEP)
    for place, seeds in enumerate(n):
        found = intervals.interval(differences[0, 0, :seeds], level=0.05 / 8, resolution=shared.STEP)
        assert (mean - half)[0, 0, place] == pytest.approx(found.low)


def test_the_former_rule_is_holms_correction_of_t_tests() -> None:
    # With 10 seeds t must exceed 2.685 (5 %, two tests) for the larger, then 2.262 (one test) for the other.
    mean = np.array([[[2.7], [2.3]], [[2.6], [2.3]], [[-2.7], [2.2]]])
    codes = studies.former_rule(mean, np.full(mean.shape, 10**0.5), np.array([10]))
    assert codes[:, :, 0].tolist() == [[BETTER, BETTER], [UNDECIDED, UNDECIDED], [WORSE, UNDECIDED]]


def test_the_running_intersection_is_that_of_the_study() -> None:
    for differences in np.random.default_rng(3).normal(0.1, 0.2, (20, 60)):
        n = np.array([12, 60])
        codes = shared.running_codes(differences, n, 0.01)
        for code, seeds in zip(codes, n, strict=True):
            found = intervals.running_interval(differences[:seeds], level=0.01, resolution=shared.STEP)
            assert VERDICTS[code] == intervals.verdict(found, shared.MARGIN)


def test_removed_and_edited_comparisons_keep_the_promise_with_levels_by_batch() -> None:
    generator, count = np.random.default_rng(4), 200
    of_removed, of_edited = later.removed(generator, count), later.edited(generator, count)
    for interval in shared.INTERVALS:
        for found, old, new in ((of_removed, later.BY_LIST, later.BY_BATCH), (of_edited, later.KEPT, later.NEW)):
            assert found[f"{new}, {interval}, 50"].mean() < above_promise(count)
            assert found[f"{old}, {interval}, 50"].mean() > 0.25


def test_a_comparison_chosen_by_its_scores_needs_seeds_from_the_larger_number_on() -> None:
    found = later.chosen(np.random.default_rng(5), 1000)
    every, smaller, larger = (found[f"{start}, running intersection"].mean() for start in later.STARTS)
    assert larger < 0.05 < smaller < every
    assert every > 0.25


def test_a_race_saves_runs_and_finds_a_best_variant() -> None:
    found = races.simulate(np.random.default_rng(6), 20, races.WORLDS["normal, sd 0.02"])
    assert found["runs"].sum() < 0.7 * races.VARIANTS * found["seeds"].sum()
    assert not found["wrong"].any()


def test_the_rule_for_outliers_withdraws_what_the_running_intersection_remembers() -> None:
    found = diverged.null(np.random.default_rng(7), 100, depth=20)
    assert found[f"{diverged.RULE}, 256"].mean() < above_promise(100)
    assert found[f"{diverged.RUNNING}, 256"].mean() > 0.5
    found = diverged.better(np.random.default_rng(8), 100)
    assert found[f"{diverged.RULE}, 256"].mean() < 0.05
    assert found[f"{diverged.SIGNED}, 256"].mean() > 0.1


def test_simulated_pairs_with_outliers_get_the_verdicts_of_the_study() -> None:
    generator = np.random.default_rng(9)
    a, b = generator.normal(98, 0.2, (2, 30, 60))
    a[::2] -= 0.4
    a[1::2] += 0.4
    b -= 5 * (generator.random(b.shape) < 0.02)
    looks = np.array([10, 30, 60])
    codes = diverged.codes(a, b, looks, 0.05)[diverged.RULE]
    settings = Settings(margin=shared.MARGIN, resolution=shared.STEP, ordered=True)
    for row, one, other in zip(codes, a, b, strict=True):
        for code, n in zip(row, looks, strict=True):
            runs = [VariantScores(np.arange(n), of[:n]) for of in (one, other)]
            assert VERDICTS[code] == compare_runs("a", "b", *runs, level=0.05, settings=settings).verdict
    assert len(np.unique(codes)) == 3  # without equivalent ones


def test_the_second_interval_holds_for_new_images_and_the_first_does_not() -> None:
    elm = images.committed("elm", "mlp_tuned")
    found = shared.in_parts(functools.partial(images.simulate, of=elm), [10], 100, 50)
    holds = {rule: found[f"{rule}, covers"].all(axis=1).mean() for rule in images.RULES}
    assert 1 - holds[images.SECOND] < above_promise(100)
    assert holds[images.FIRST] < 0.5
    assert holds[images.RUNNING] <= holds[images.FIRST]


def test_the_simulated_second_interval_is_that_of_the_library() -> None:
    differences = np.random.default_rng(11).choice([-1.0, 0, 1], (400, 5), p=[0.1, 0.8, 0.1])
    weights = np.array([0.4, 0.2, 0.2, 0.2, 0])  # the first seed twice
    averaged = 100 * differences @ weights
    found = images.standard_errors(
        (differences.T @ differences)[None], weights[None], averaged.mean(keepdims=True), 400
    )
    assert found == pytest.approx(new_images.standard_error(averaged, resolution=0.25))
    half = images.half_widths(17, np.array([0.2297]), np.array([0.041]))[images.SECOND]
    assert half == pytest.approx(new_images.half_width(17, 0.2297, 0.041, 0.05), rel=1e-5)


def test_a_gate_for_many_changes_keeps_the_promise_of_a_year() -> None:
    found = gate.simulate(np.random.default_rng(12), 200)
    each, among = gate.LEVELS
    for design in (gate.FIXED, gate.OPEN):
        assert found[f"{among}, {design}"].mean() < above_promise(200)
        assert found[f"{each}, {design}"].mean() > 0.5


def test_the_committed_page_has_the_tables_that_the_command_writes() -> None:
    written = report.page([section for question in report.QUESTIONS for section in question.sections(2)], 2)
    committed = (ROOT / report.REPORT).read_text(encoding="utf-8")
    headers = re.compile(r"^#+ .*|^\| .*(?=\n\| ---)", re.MULTILINE)
    assert headers.findall(written) == headers.findall(committed)
    assert all(len(line) <= 120 for line in written.splitlines() if not line.startswith("|"))
