"""The engine, through `many_seeds.compare`, on scores whose results are computed independently."""

import doctest
import json
import math
import pkgutil
import subprocess
import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import many_seeds as ms
from many_seeds import UserError
from many_seeds.comparisons import compare_scores
from many_seeds.results import Settings
from many_seeds.sources.scores import from_arrays
from many_seeds.statistics import intervals
from tests import ROOT
from tests.support.command import TENTHS

ZEROS = [0.0] * 10
OPTIONAL = {
    "keras",
    "tensorflow",
    "dvc",
    "mlflow",
    "pydantic",
    "joblib",
    "sklearn",
    "ruamel",
    "yaml",
    "stages",
}
SLOW = {"matplotlib", "scipy.stats"}  # installed with the library; they take as long to import as everything else


def frame(scores: Mapping[str, Mapping[int, float]]) -> pd.DataFrame:
    """A row for each variant and seed."""
    rows = [(name, seed, score) for name, of in scores.items() for seed, score in of.items()]
    return pd.DataFrame(rows, columns=["variant", "seed", "score"])


def test_the_interval_has_the_expected_bounds() -> None:
    (result,) = ms.compare({"a": ZEROS, "b": TENTHS})
    assert (result.low, result.high) == pytest.approx((0.55 - 0.370504, 0.55 + 0.370504), abs=1e-6)
    assert (result.verdict, result.n, result.n_a, result.n_b, result.paired) == ("better", 10, 10, 10, True)
    (result,) = ms.compare({"a": ZEROS, "b": TENTHS}, design="fixed")
    assert (result.low, result.high) == pytest.approx((0.55 - 0.216585, 0.55 + 0.216585), abs=1e-6)


def test_lower_is_better_turns_the_verdict_and_not_the_difference() -> None:
    scores = {"a": ZEROS, "b": TENTHS, "c": [2.0 - tenth for tenth in TENTHS]}
    higher, lower = (ms.compare(scores, baseline="a", lower_is_better=lower) for lower in (False, True))
    assert [result.verdict for result in higher] == ["better", "better"]
    assert [result.verdict for result in lower] == ["worse", "worse"]
    assert [result.low for result in higher] == [result.low for result in lower]


def test_a_difference_within_the_margin_is_equivalent_and_without_a_margin_nothing_is() -> None:
    scores = {"a": [1.0] * 100, "b": [1 + x for x in [-0.01, 0.02, 0, 0.01] * 25]}
    assert ms.compare(scores, margin=0.05)[0].verdict == "equivalent"
    assert ms.compare(scores, margin=0.05, lower_is_better=True)[0].verdict == "equivalent"
    assert ms.compare(scores)[0].verdict == "better"


@pytest.mark.parametrize("seeds", [2, 10])
def test_a_pair_with_the_same_difference_in_every_seed_does_not_affect_the_others(seeds: int) -> None:
    scores = {"a": TENTHS, "shifted": [tenth + 0.1 for tenth in TENTHS], "same": TENTHS, "up": [2.0, 3.0] * 5}
    scores = {name: of[:seeds] for name, of in scores.items()}
    results = ms.compare(scores, baseline="a", design="fixed")
    shifted, same, up = results
    assert [result.verdict for result in (shifted, same)] == ["undecided", "unchanged"]
    assert (shifted.tied, same.tied) == (True, False)
    for result in (shifted, same):
        assert (result.low, result.high) == (-math.inf, math.inf)
        assert (result.seeds_projected, result.seeds_worst_case) == (None, None)
    differences = np.subtract(scores["up"], scores["a"])
    expected = intervals.interval(differences, level=0.05 / 3, design="fixed")  # the others count too
    assert (up.low, up.high) == pytest.approx((expected.low, expected.high))
    remarks = " ".join(results.remarks)
    assert f"unchanged, with the same score in every seed: a:same ({seeds} seeds)" in remarks
    assert "every seed has the same difference" in remarks
    assert (
        "no information on its uncertainty: a:shifted. Set a resolution (--resolution; in Python, resolution=…)"
        in remarks
    )
    with_resolution = ms.compare(scores, baseline="a", design="fixed", resolution=0.001)
    assert [result.verdict for result in with_resolution][:2] == ["better", "unchanged"]
    assert with_resolution["a", "same"].difference == 0
    assert with_resolution["a", "same"].seeds_projected is None


def test_differences_of_large_scores_are_kept_and_those_of_rounding_are_not() -> None:
    (result,) = ms.compare({"a": [1e9] * 10, "b": [1e9 + tenth for tenth in TENTHS]})
    assert (result.verdict, result.difference) == ("better", pytest.approx(0.55, abs=1e-6))
    (result,) = ms.compare({"a": TENTHS, "b": [tenth * 3 / 3 for tenth in TENTHS]})
    assert (result.verdict, result.difference) == ("unchanged", 0)


def test_the_intervals_of_all_pairs_hold_simultaneously() -> None:
    results = ms.compare({"a": ZEROS} | {f"b{place}": TENTHS for place in range(8)}, baseline="a")
    assert (len(results), results.family) == (8, 8)
    for result in results:
        # 0.05 / 8 for each.
        assert (result.low, result.high) == pytest.approx((-0.001059, 1.101059), abs=1e-6)
        assert result.verdict == "undecided"
        assert result.seeds_projected is not None
        assert result.seeds_projected > 10
    some = results.of([("a", "b3"), ("a", "b1")])
    assert [result.b for result in some] == ["b3", "b1"]
    assert "The 8 intervals hold simultaneously" in str(some)


def test_seeds_that_one_variant_lacks_are_named_and_the_others_paired_by_their_number() -> None:
    a = {seed: seed / 10 for seed in range(10)}
    b = {seed: seed / 10 + 1 + seed % 2 for seed in range(12, 6, -1)}
    results = ms.compare(frame({"a": a, "b": b}), design="fixed")
    assert (results[0].n, results[0].difference) == (3, pytest.approx((2 + 1 + 2) / 3))  # seeds 7, 8 and 9
    assert "a:b (10 and 6 runs, 3 in common)" in " ".join(results.remarks)


def test_runs_without_a_common_seed_are_compared_by_welch_if_their_number_was_fixed() -> None:
    scores = frame({"a": {0: 1, 1: 2, 2: 3, 3: 4}, "b": {4: 6, 5: 8, 6: 10}})
    results = ms.compare(scores, design="fixed")
    # Means 2.5 and 8, variances 5/3 and 4: error 1.3229, freedom 3.2347 (by Welch's formula), t = 3.0556.
    assert (results[0].paired, results[0].n, results[0].n_a, results[0].n_b) == (False, 3, 4, 3)
    assert (results[0].low, results[0].high) == pytest.approx((5.5 - 4.0423, 5.5 + 4.0423), abs=2e-3)
    assert "not paired by seed, compared by Welch's interval: a:b" in results.remarks
    assert "  4 and 3  " in str(results)
    with pytest.raises(
        UserError, match=r"no seed in common: a:b \(a: 0, 1, 2, 3; b: 4, 5, 6\).*in Python, unpaired=True"
    ):
        ms.compare(scores)


def test_a_variant_with_one_run_is_undecided_and_named() -> None:
    results = ms.compare({"a": TENTHS, "b": TENTHS[::-1], "c": [0.5]}, baseline="a")
    assert (results["a", "c"].verdict, results["a", "c"].n) == ("undecided", 1)
    assert "only one run, so there is no interval: c" in results.remarks
    assert " any " in str(results)


def test_a_thousand_variants_are_compared_with_a_baseline_and_not_with_one_another() -> None:
    scores = np.random.default_rng(0).normal(size=(1000, 10)).round(4)
    of = {f"v{place}": row for place, row in enumerate(scores)}
    with pytest.raises(UserError, match="1,000 variants make 499,500 pairs"):
        ms.compare(of)
    results = ms.compare(of, baseline="v0")
    assert len(results) == 999
    with pytest.raises(UserError, match=r"has room for 200 pairs.*in Python, pairs=…"):
        results.plot()


def test_a_data_frame_a_mapping_and_a_file_give_the_same_results(tmp_path: Path) -> None:
    arrays = {"a": np.array(TENTHS), "b": np.array(TENTHS[::-1]) + 1, "c": np.array(TENTHS[3:] + TENTHS[:3])}
    table = frame({name: dict(enumerate(of)) for name, of in arrays.items()})
    path = tmp_path / "scores.csv"
    table.to_csv(path, index=False)
    expected = ms.compare(arrays, margin=0.1)
    for scores in (table, path, str(path), {name: of.tolist() for name, of in arrays.items()}):
        assert ms.compare(scores, margin=0.1) == expected
    shuffled = ms.compare(table.sample(frac=1, random_state=0), [(one.a, one.b) for one in expected], margin=0.1)
    pd.testing.assert_frame_equal(shuffled.to_frame(), expected.to_frame())


def test_results_are_found_by_pair_and_by_place() -> None:
    results = ms.compare({"a": ZEROS, "b": TENTHS, "c": TENTHS[::-1]})
    assert [(result.a, result.b) for result in results] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert results["a", "c"] is results[1]
    assert results[-1].b == "c"
    assert len(results) == 3
    with pytest.raises(
        KeyError, match=r"no comparison of \('c', 'a'\); expected one of \('a', 'b'\), \('a', 'c'\), \('b', 'c'\)"
    ):
        results["c", "a"]
    with pytest.raises(KeyError, match="no comparison of b"):
        results["b"]  # type: ignore[call-overload]
    with pytest.raises(IndexError):
        results[3]


def test_a_pair_is_found_without_a_search_through_all_results() -> None:
    class Counted(str):
        compared = 0
        __hash__ = str.__hash__

        def __eq__(self, other: object) -> bool:
            Counted.compared += 1
            return str.__eq__(self, other)

    of = {f"v{place}": [float(place), place + 0.5, place + 0.7] for place in range(100)}
    results = ms.compare(of, baseline="v0")
    pairs = [(Counted(one.a), Counted(one.b)) for one in results]
    assert list(results.of(pairs)) == list(results)
    assert Counted.compared < 10 * len(results)


def test_variants_may_be_named_by_numbers() -> None:
    scores = {64: ZEROS, 128: TENTHS}
    expected = ms.compare({"64": ZEROS, "128": TENTHS})
    table = frame({str(name): dict(enumerate(of)) for name, of in scores.items()}).astype({"variant": int})
    for given in (scores, table):
        assert list(ms.compare(given, baseline=64)) == list(expected)  # type: ignore[arg-type]
        assert list(ms.compare(given, [(64, 128)])) == list(expected)  # type: ignore[list-item]


def test_a_frame_has_a_row_for_each_result() -> None:
    scores = {"a": ZEROS, "b": [0.1, -0.1] * 5, "c": TENTHS, "d": [-1.0 - tenth for tenth in TENTHS]}
    table = ms.compare(scores, baseline="a", margin=0.01).to_frame()
    assert list(table) == [
        *("a", "b", "score", "n", "difference", "low", "high", "verdict"),
        *("low_new_images", "high_new_images", "verdict_new_images"),
        *("seeds_projected", "seeds_worst_case", "images_needed", "outliers"),
    ]
    assert table["score"].tolist() == ["score"] * 3
    assert table["verdict"].tolist() == ["undecided", "better", "worse"]
    assert table["seeds_projected"].isna().tolist() == [False, True, True]
    assert str(table["seeds_projected"].dtype) == "Int64"


def test_a_dictionary_of_results_is_json_without_nan_and_infinity() -> None:
    scores = {"a": TENTHS, "b": TENTHS[::-1], "c": [0.5], "tied": [tenth + 0.1 for tenth in TENTHS], "same": TENTHS}
    results = ms.compare(scores, baseline="a", margin=0.1)
    read = json.loads(json.dumps(results.to_dict(), allow_nan=False))
    assert read["settings"] == {
        "margin": 0.1,
        "step": 0.0,
        "confidence": 0.95,
        "design": "open",
        "lower_is_better": False,
        "ordered": False,
    }
    assert (read["metric"], read["family"], len(read["results"])) == ("score", 4, 4)
    assert (read["results"][1]["low"], read["results"][1]["high"]) == (None, None)
    assert [result["tied"] for result in read["results"]] == [False, False, True, False]


def test_undecided_results_have_the_projected_seeds() -> None:
    (result,) = ms.compare({"a": ZEROS, "b": [0.3, -0.1] * 5}, margin=0.2)
    differences = np.array([0.3, -0.1] * 5)
    expected = intervals.projected_seeds(10, differences.mean(), differences.std(ddof=1), level=0.05, margin=0.2)
    worst = intervals.worst_case_seeds(10, differences.std(ddof=1), level=0.05, margin=0.2)
    assert (result.verdict, result.seeds_projected, result.seeds_worst_case) == ("undecided", expected, worst)
    assert expected is not None
    assert worst is not None
    assert 10 < expected <= worst


GOOD = {"a": [1.0, 2.0, 3.0], "b": [2.0, 3.0, 5.0]}


@pytest.mark.parametrize(
    ("scores", "options", "expected"),
    [
        (GOOD, {"margin": -1}, "margin should be a number of 0 or more, in the unit of the scores, received -1"),
        (GOOD, {"margin": math.nan}, "margin should be a number of 0 or more, in the unit of the scores, received nan"),
        (
            GOOD,
            {"resolution": math.inf},
            "resolution should be a number of 0 or more, in the unit of the scores, received inf",
        ),
        (GOOD, {"confidence": 95}, "confidence should be a number between 0 and 1, such as 0.95, received 95"),
        (GOOD, {"confidence": 0}, "confidence should be a number between 0 and 1, such as 0.95, received 0"),
        (GOOD, {"design": "closed"}, "design should be open or fixed, received 'closed'"),
        (GOOD, {"pairs": [("a", "c")]}, "pairs should be (a, b) of two variants of a, b, received ('a', 'c')"),
        (GOOD, {"pairs": ["ab"]}, "pairs should be (a, b) of two variants of a, b, received 'ab'"),
        (GOOD, {"pairs": [("a", "a")]}, "received ('a', 'a')"),
        (GOOD, {"pairs": []}, "expected at least one pair (a, b), received none"),
        (GOOD, {"pairs": [("a", "b"), ("b", "a")]}, "pairs has b:a twice, in either order"),
        (GOOD, {"pairs": [("a", "b")], "baseline": "a"}, "expected pairs or a baseline, received both"),
        (GOOD, {"baseline": "c"}, "the baseline should be a variant, received 'c'. Variants: a, b"),
        ({"a": [1.0, 2.0]}, {}, "expected at least two variants, found only a"),
        ({}, {}, "expected at least two variants, found none"),
        (GOOD, {"margin": "0.1"}, "margin should be a number of 0 or more, in the unit of the scores, received '0.1'"),
        (GOOD, {"confidence": "0.95"}, "confidence should be a number between 0 and 1, such as 0.95, received '0.95'"),
        (GOOD, {"confidence": 1 - 1e-13}, "confidence should be a number between 0 and 1"),
        (GOOD, {"pairs": [5]}, "pairs should be (a, b) of two variants of a, b, received 5"),
        (GOOD, {"pairs": [(["a"], "b")]}, "pairs should be (a, b) of two variants of a, b, received (['a'], 'b')"),
        (
            GOOD | {"c": [1.0, math.nan]},
            {},
            "the scores of c should be finite numbers, received nan at index 1 (1 such score): sequences are paired",
        ),
        (GOOD | {"c": [math.inf, 1.0]}, {}, "the scores of c should be finite numbers, received inf at index 0"),
        (GOOD | {"c": [1e200, 2e200]}, {}, "(2 such scores): use another unit"),
        (GOOD | {"c": []}, {}, "one for each seed, received an array of shape (0,)"),
        (GOOD | {"c": [[1.0]]}, {}, "one for each seed, received an array of shape (1, 1)"),
        (
            GOOD | {"c": ["x"]},
            {},
            "the scores of c should be a sequence of finite numbers, one for each seed, received ['x']",
        ),
        (GOOD | {"c": [10**400]}, {}, "should be a sequence of finite numbers, one for each seed, received [1000"),
        (GOOD | {"c": (one for one in (1.0, 2.0))}, {}, "one for each seed, received <generator"),
        ({1: [1.0, 2.0], "1": [2.0, 3.0], "b": [1.0, 2.0]}, {}, "two variants have the name 1, as text"),
        (GOOD | {" ": [1.0, 2.0]}, {}, "every variant should have a name, received ' '"),
        (GOOD | {"c\n::error::d": [1.0, 2.0]}, {}, "no line breaks or control characters"),
        (3, {}, "scores should be a data frame, a mapping or a path, received int"),
        ("nosuch.csv", {}, "nosuch.csv can't be read: No such file or directory"),
        (
            pd.DataFrame({"model": ["a"], "seed": [0], "f1": [1.0]}),
            {},
            "expected the columns variant, seed and one of scores, received model, seed, f1",
        ),
        (
            pd.DataFrame({"a": [1.0, 2.0], "b": [2.0, 3.0]}),
            {},
            "received a, b; if each column is a variant, give a mapping from its name to its scores",
        ),
        (
            pd.DataFrame({"variant": ["a", "b"], "seed": [0, 0], "f1": [1.0, 2.0], "loss": [1.0, 2.0]}),
            {},
            "expected one column of scores beside variant and seed, found f1, loss",
        ),
        (
            pd.DataFrame([["a", "a", 0, 1.0]], columns=["variant", "variant", "seed", "f1"]),
            {},
            "the data frame has the column 'variant' twice",
        ),
        (
            pd.DataFrame({"variant": ["a", "b"], "seed": [0, 0], "f1": [1.0, math.nan]}),
            {},
            "row 2 should have a finite number as f1, received an empty value or NaN",
        ),
        (
            pd.DataFrame({"variant": ["a", "b", "b"], "seed": [0, 0, 0], 0: [1.0, 2.0, 3.0]}),
            {},
            "variant b has seed 0 twice, in row 2 and row 3",
        ),
        (
            {"a": [1, 2], "b": [2, 3]},
            {"by": "model"},
            "by should be a list, such as ['model'], received the text 'model'",
        ),
    ],
)
def test_errors_have_the_expected_and_the_received_value(scores: Any, options: dict[str, Any], expected: str) -> None:
    with pytest.raises(UserError) as raised:
        ms.compare(scores, **options)
    assert expected in str(raised.value)


def test_the_library_needs_nothing_of_the_pipeline_and_starts_without_matplotlib() -> None:
    code = f"import sys, many_seeds, many_seeds.commands.cli; print(sorted({OPTIONAL | SLOW!r} & {{*sys.modules}}))"
    output = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert output.stdout.strip() == "[]"


MODULES = [name for _, name, _ in pkgutil.walk_packages(ms.__path__, "many_seeds.")]


@pytest.mark.parametrize("name", ["many_seeds", *MODULES])
def test_the_examples_of_the_docstrings_are_true(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    module = import_module(name)
    globs = {**vars(module), "np": np}
    assert doctest.testmod(module, globs=globs, optionflags=doctest.ELLIPSIS).failed == 0


def test_the_public_functions_have_examples() -> None:
    for function in (ms.compare, ms.interval):
        assert ">>> " in (function.__doc__ or "")


@pytest.mark.pipeline
def test_the_scores_of_the_study_give_its_committed_tables(committed_study: Any) -> None:
    from stages.study import files, paths
    from stages.study.records.ledger_files import read_ledger

    scores = {}
    for name in committed_study.variants:
        arrays = files.read_arrays(ROOT / paths.predictions_path(name))
        scores[name] = 100 * (arrays["labels"] == arrays["truth"]).mean(axis=1)
    margin, images = committed_study.statistics.equivalence_margin, len(arrays["truth"])
    tables = [pd.read_csv(ROOT / paths.TABLES / f"{name}.csv") for name in ("comparisons", "approach_pairs")]
    committed = {(row["a"], row["b"]): row for row in pd.concat(tables).to_dict("records")}
    rows = read_ledger(ROOT / paths.COMPARISONS)
    for batch, share in ((1, 0.04), (2, 0.005)):  # of α = 0.05
        pairs = [(row.a, row.b) for row in rows if row.batch == batch]
        settings = Settings(margin=margin, resolution=100 / images, confidence=1 - share, ordered=True)
        shown = [one for one in compare_scores(from_arrays(scores), pairs, settings) if (one.a, one.b) in committed]
        assert shown
        for result in shown:
            row = committed[result.a, result.b]
            assert [result.low, result.high] == pytest.approx([row["low"], row["high"]], abs=1e-6)
            assert (result.n, result.verdict) == (row["n"], row["verdict"])


def test_a_mean_outside_the_interval_of_the_earlier_seeds_is_named() -> None:
    a, b = np.zeros(20), np.tile([1.9, 2.1], 10)
    b[12:] += 0.7  # made with other code
    scores = from_arrays({"a": a, "b": b}, "score")
    [result] = found = compare_scores(scores, [("a", "b")], Settings(ordered=True))
    assert result.low < result.high < result.difference
    assert "the mean is outside the interval, which holds at all numbers of seeds: a:b" in found.remarks[-1]
    assert not compare_scores(scores, [("a", "b")], Settings()).remarks


def test_series_with_seeds_in_different_orders_are_refused() -> None:
    a = pd.Series(TENTHS, index=range(10))
    assert ms.compare({"a": a, "b": a + 1.0}, resolution=0.1)[0].verdict == "better"
    with pytest.raises(UserError, match="the series of a and b have different indexes"):
        ms.compare({"a": a, "b": a[::-1]})
