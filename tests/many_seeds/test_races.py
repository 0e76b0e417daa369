"""The state of a race, replayed from its scores."""

from typing import Any

import numpy as np
import pytest

from many_seeds.comparisons import compare_runs
from many_seeds.races import Elimination, Standing, standing
from many_seeds.results import Settings
from many_seeds.sources.scores import VariantScores

# b − a is 0.1, 0.2, …: at level 0.05, its interval is −0.066 … 0.766 after 6 seeds, and 0.021 … 0.779 after 7.
A = np.full(10, 90.0)
B = A + np.arange(1, 11) / 10
C = A - 20 + np.tile([0.0, 0.5], 5)
NOISE = np.random.default_rng(0).normal(0, 0.06, (6, 120))


def replayed(scores: dict[str, np.ndarray], **changes: Any) -> Standing:
    return standing(scores, **{"level": 0.05, "margin": 0.05, "resolution": 0.01, **changes})


def test_a_race_of_two_ends_at_the_seed_computed_by_hand() -> None:
    assert replayed({"a": A[:6], "b": B[:6]}) == Standing(6, ("a", "b"), {}, "b", ended=False, reason=None)
    ended = Standing(7, ("b",), {"a": Elimination(7, by="b")}, "b", ended=True, reason="one left")
    assert replayed({"a": A, "b": B}) == ended


def test_the_best_of_several_better_variants_is_named_and_the_race_goes_on() -> None:
    """Level 0.1 / 2 for each pair. No interval is finite before 5 seeds, where c is out by far."""
    found = replayed({"a": A, "b": B, "c": C}, level=0.1)
    assert found.eliminated == {"c": Elimination(5, by="b"), "a": Elimination(7, by="b")}
    assert (found.n, found.reason) == (7, "one left")


def test_with_a_variant_more_it_is_another_race() -> None:
    """At level 0.05 / 2, b − a is −0.070 … 0.870 after 7 seeds and 0.012 … 0.888 after 8."""
    assert replayed({"a": A, "b": B, "c": C}).eliminated["a"].n == 8


def test_names_and_their_order_do_not_matter() -> None:
    found = replayed({"a": A, "b": B, "c": C})
    assert replayed({"c": C, "a": A, "b": B}) == found
    renamed = replayed({"b": A, "c": B, "a": C})
    assert (renamed.leader, renamed.eliminated["b"]) == ("c", Elimination(found.eliminated["a"].n, by="c"))


def test_only_seeds_from_the_first_seed_on_are_used() -> None:
    found = replayed({"a": A, "b": B})
    for before in (np.full(200, np.nan), np.arange(200.0)):
        runs = {name: np.r_[before, scores] for name, scores in (("a", A), ("b", B))}
        assert replayed(runs, first_seed=200) == found


def test_a_race_ends_when_all_are_equivalent_to_the_leader() -> None:
    runs = dict(zip("abc", 98 + NOISE[:3], strict=True))
    found = replayed(runs, margin=0.1)
    assert (found.ended, found.reason, found.in_race) == (True, "equivalent", ("a", "b", "c"))
    assert not replayed({name: scores[: found.n - 1] for name, scores in runs.items()}, margin=0.1).ended


def test_a_race_ends_when_the_seeds_are_used_up() -> None:
    runs = {"a": A, "b": B}
    assert (replayed(runs, most=6).n, replayed(runs, most=6).reason) == (6, "seeds used up")
    assert replayed(runs, most=7).reason == "one left"
    assert not replayed(runs, most=20, margin=5, level=1e-6).ended


def test_a_variant_never_comes_back_and_runs_after_the_end_do_not_count() -> None:
    scores = 98 + NOISE + np.array([0, 0.03, 0.06, 0.09, 0.12, 0.15])[:, None]
    runs = dict(zip("abcdef", scores, strict=True))
    last = replayed(runs)
    assert last.ended
    assert len(last.eliminated) > 2
    for n in range(last.n + 5):
        found = replayed({name: of[:n] for name, of in runs.items()})
        assert found.eliminated == {name: out for name, out in last.eliminated.items() if out.n <= n}
        assert found.ended == (n >= last.n)


def test_seeds_are_needed_only_by_variants_in_the_race() -> None:
    scores = 98 + NOISE + np.array([0, 0.03, 0.06, 0.09, 0.12, 0.15])[:, None]
    found = replayed(dict(zip("abcdef", scores, strict=True)))
    cut = scores.copy()
    for name, out in found.eliminated.items():
        cut["abcdef".index(name), out.n :] = np.nan
    assert replayed(dict(zip("abcdef", cut, strict=True))) == found
    cut["abcdef".index(str(found.leader)), 12] = np.nan  # unfinished: later seeds wait for it
    assert replayed(dict(zip("abcdef", cut, strict=True))).n == 12


def test_a_loss_is_better_if_it_is_lower() -> None:
    found = replayed({"a": A, "b": B}, lower_is_better=True)
    assert (found.leader, found.eliminated) == ("a", {"b": Elimination(7, by="a")})


def test_a_pair_is_decided_where_its_comparison_is() -> None:
    settings = Settings(margin=0.05, resolution=0.01, ordered=True)
    for shift in (0.0, 0.04, 0.1):
        a, b = 98 + NOISE[0], 98 + NOISE[1] + shift
        b[20] -= 50 * (shift == 0.1)
        verdicts = []
        for n in range(2, len(a) + 1):
            runs = [VariantScores(np.arange(n), of[:n]) for of in (a, b)]
            verdicts.append(compare_runs("a", "b", *runs, level=0.05, settings=settings).verdict)
        first = next(place for place, verdict in enumerate(verdicts, 2) if verdict != "undecided")
        assert replayed({"a": a, "b": b}).n == first


def test_a_variant_that_diverges_neither_wins_nor_is_equivalent() -> None:
    a, b = 98 + NOISE[:2]
    assert replayed({"a": a, "b": b}, margin=0.1).reason == "equivalent"
    b[9] = 10
    assert not replayed({"a": a, "b": b}, margin=0.1).ended
    assert not replayed({"a": a, "b": b + 0.03}).ended


def test_equal_differences_have_no_information_without_a_resolution() -> None:
    assert not replayed({"a": A, "b": A + 0.1}, resolution=0.0).ended


def test_without_a_seed_there_is_no_leader() -> None:
    assert replayed({"a": A[:0], "b": B}) == Standing(0, ("a", "b"), {}, None, ended=False, reason=None)


def test_what_is_no_race_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"Expected a race of two variants or more, received \['a'\]"):
        replayed({"a": A})
    with pytest.raises(ValueError, match="Expected finite scores of b"):
        replayed({"a": A, "b": A + np.inf})
