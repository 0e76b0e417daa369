"""The ledger: what is entered, what is refused, and the merge of two branches."""

import itertools
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from many_seeds import ledger
from many_seeds.errors import UserError
from many_seeds.ledger import Asked, Row, ask, check, check_against, parse, to_csv
from many_seeds.ledger_merge import digest, merge
from many_seeds.statistics.levels import batch_level

FILE = "metrics/comparisons.csv"


def pair(a: str, b: str, margin: float = 0.05, kind: ledger.Kind = "comparison") -> Asked:
    return Asked(kind, a, b, "accuracy", margin, "~".join(sorted([a, b])), (a, b))


def asked(rows: Sequence[Row], *pairs: str, seen: dict[str, int] | None = None, data: str = "mnist") -> list[Row]:
    """The ledger after the study asked these comparisons, written "ab cd"."""
    return ask(rows, [pair(*names) for names in pairs], seen or {}, data=data, alpha=0.05, design="open")


def checked(rows: Sequence[Row], **changes: Any) -> None:
    settings: dict[str, Any] = {
        "data": "mnist",
        "alpha": 0.05,
        "design": "open",
        "source": FILE,
        "new_ledger": "`new`",
    } | changes
    check(rows, **settings)


def names(rows: Sequence[Row]) -> list[tuple[int, str]]:
    return [(row.batch, row.a + row.b) for row in rows]


def test_comparisons_that_are_asked_together_form_a_batch_and_keep_their_level() -> None:
    first = asked([], "ab", "ac")
    second = asked(first, "ab", "ac", "bc")
    assert names(second) == [(1, "ab"), (1, "ac"), (2, "bc")]
    assert [row.level for row in second] == pytest.approx([0.02, 0.02, 0.005])
    assert second[:2] == first
    assert asked(second, "bc", "ac", "ab") == second


def test_a_comparison_that_is_not_asked_any_more_is_withdrawn_and_keeps_its_level_when_it_is_asked_again() -> None:
    first = asked([], "ab", "ac")
    without = asked(first, "ab")
    assert [row.withdrawn for row in without] == ["", "yes"]
    assert without[1].level == first[1].level
    assert asked(without, "ab", "ac", seen={"a": 10, "c": 10}) == first


def test_new_comparisons_after_a_withdrawal_do_not_take_its_batch() -> None:
    rows = asked(asked(asked([], "ab"), "ab", "ac"), "ab")
    assert names(asked(rows, "ab", "bc")) == [(1, "ab"), (2, "ac"), (3, "bc")]


def test_a_comparison_turned_round_is_the_same_one_with_todays_names() -> None:
    (row,) = asked(asked([], "ab"), "ba")
    assert (row.batch, row.a, row.b) == (1, "b", "a")


def test_two_names_of_one_comparison_get_one_row() -> None:
    copy = replace(pair("a", "b"), a="copy")
    rows = ask([], [pair("a", "b"), copy], {}, data="mnist", alpha=0.05, design="open")
    assert [(row.a, row.level) for row in rows] == [("a", pytest.approx(0.04))]


def test_another_margin_is_no_new_comparison_and_is_kept_beside_the_first() -> None:
    rows = asked([], "ab")
    for margin in (0.1, 0.05, 0.1):
        rows = ask(rows, [pair("a", "b", margin)], {}, data="mnist", alpha=0.05, design="open")
    assert [(row.batch, row.margin) for row in rows] == [(1, "0.05 0.1")]


@pytest.mark.parametrize(
    ("seen", "expected"), [({}, 0), ({"a": 40}, 0), ({"a": 40, "b": 10}, 40), ({"a": 0, "b": 10}, 0)]
)
def test_seeds_that_were_seen_of_both_variants_do_not_count(seen: dict[str, int], expected: int) -> None:
    assert asked([], "ab", seen=seen)[0].from_seed == expected


def test_scores_that_are_seen_later_change_no_row() -> None:
    assert asked(asked([], "ab"), "ab", seen={"a": 10, "b": 10})[0].from_seed == 0


def test_another_data_set_has_batches_of_its_own() -> None:
    mnist = asked(asked([], "ab"), "ab", "ac")
    both = asked(mnist, "ab", data="digits")
    assert [(row.data, row.batch, row.withdrawn) for row in both] == [
        ("digits", 1, ""), ("mnist", 1, ""), ("mnist", 2, "")
    ]  # fmt: skip
    assert [row for row in both if row.data == "mnist"] == mnist


def test_a_ledger_is_read_as_it_was_written() -> None:
    rows = asked(asked(asked([], "ab"), "ac", "bc", "cd"), "ab", seen={"a": 3, "c": 4})
    assert parse(to_csv(rows), FILE) == rows
    assert to_csv(rows).splitlines()[0] == (
        "data,batch,kind,a,b,score,margin,level,from_seed,identity,confidence,design,withdrawn"
    )
    assert parse("", FILE) == []


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("data,batch", "batch,data", "line 1: expected the columns"),
        ("mnist,2", "<<<<<<< HEAD\nmnist,2", "line 3: expected 13 values, received '<<<<<<< HEAD'"),
        ("mnist,2", "mnist,two", "line 3: expected a number of 1 or more as batch, received 'two'"),
        ("comparison,a,c", "guess,a,c", "line 3: expected 'comparison' or 'race' as kind"),
        (",0.005,", ",5,", "line 2: expected a number between 0 and 1 as level"),
        (",0.005,", ",nan,", "line 2: expected a number between 0 and 1 as level"),
        ("a~c", "a~b", "line 3: expected one row for each comparison, received 'a second row of a → c'"),
        ("open,\n", "open,perhaps\n", "line 2: expected '' or 'yes' as withdrawn"),
        ("accuracy,0.05", "accuracy,wide", "line 2: expected numbers as margin"),
    ],
)
def test_a_damaged_ledger_is_refused_with_the_line(old: str, new: str, expected: str) -> None:
    text = to_csv([replace(row, level=0.005) for row in asked(asked([], "ab"), "ab", "ac")])
    with pytest.raises(UserError, match=f"^{FILE}, {expected}"):
        parse(text.replace(old, new, 1), FILE)


def test_levels_that_add_up_to_more_than_a_batch_may_have_are_refused() -> None:
    rows = asked(asked([], "ab", "ac"), "ab", "ac", "bc")
    checked(rows)
    for number, row in enumerate(rows):
        raised = [*rows[:number], replace(row, level=1.001 * row.level), *rows[number + 1 :]]
        with pytest.raises(UserError, match=f"levels of batch {row.batch} of mnist should add up to"):
            checked(raised)


def test_two_sets_in_one_batch_are_refused() -> None:
    """As after a merge by hand that keeps the rows of both branches."""
    start = asked([], "ab")
    both = [*asked(start, "ab", "ac"), asked(start, "ab", "bc")[-1]]
    with pytest.raises(UserError, match=r"batch 2 of mnist .* After a merge without the merge drivers"):
        checked(both)


@pytest.mark.parametrize("changes", [{"alpha": 0.1}, {"alpha": 0.01}, {"design": "fixed"}])
def test_another_confidence_or_design_takes_a_new_ledger(changes: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"were entered with confidence 0.95 and the design open.*`new`"):
        checked(asked([], "ab"), **changes)
    checked(asked([], "ab"), data="another", **changes)
    checked([], **changes)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"level": 0.021}, "has the level 0.021, larger than 0.02"),
        ({"from_seed": 9}, "counts seeds from 9 on, in place of 10"),
        ({"score": "log_loss"}, "has score log_loss in place of accuracy"),
        ({"kind": "race"}, "has kind race"),
        ({"confidence": 0.9}, "has confidence 0.9 in place of 0.95"),
        ({"identity": "another"}, "is missing"),
        ({"data": "another"}, "is missing"),
        ({"margin": "0.1"}, "lacks the margin 0.05"),
    ],
)
def test_a_recorded_row_that_is_missing_or_better_off_is_refused(changes: dict[str, Any], expected: str) -> None:
    recorded = asked([], "ab", "ac", seen={"a": 10, "b": 10})
    with pytest.raises(UserError, match=rf"a → b \(batch 1 of mnist\) {expected}.*git checkout HEAD -- {FILE}"):
        check_against([replace(recorded[0], **changes), recorded[1]], recorded, FILE)


def test_later_rows_smaller_levels_and_new_names_are_no_change_of_recorded_rows() -> None:
    recorded = asked([], "ab", "ac")
    rows = asked(recorded, "ba", "bc")
    check_against([replace(row, level=row.level / 2, batch=row.batch + 1) for row in rows], recorded, FILE)


START = asked([], "ab", "ac")


def shares(rows: Sequence[Row]) -> dict[int, float]:
    totals = defaultdict[int, float](float)
    for row in rows:
        totals[row.batch] += row.level
    return totals


def merged(base: Sequence[Row], ours: Sequence[Row], theirs: Sequence[Row]) -> list[Row]:
    """The merge, which is the same whichever side is ours, raises no level, and keeps every row."""
    rows, messages = merge(base, ours, theirs)
    assert merge(base, theirs, ours) == (rows, messages)
    checked(rows)
    for side in (ours, theirs):
        check_against(rows, side, FILE)
    assert parse(to_csv(rows), FILE) == rows
    return rows


def test_of_two_new_sets_the_one_with_the_smaller_digest_keeps_the_batch() -> None:
    one, two = asked(START, "ab", "ac", "ad", "ae"), asked(START, "ab", "ac", "bd")
    sets = sorted([["a~d", "a~e"], ["b~d"]], key=digest)
    rows = merged(START, one, two)
    assert rows[:2] == START
    assert [[row.identity for row in rows if row.batch == batch] for batch in (2, 3)] == sets
    for batch, identities in zip((2, 3), sets, strict=True):
        level = batch_level(batch, len(identities), 0.05)
        assert [row.level for row in rows if row.batch == batch] == pytest.approx([level] * len(identities))
    (message,) = merge(START, one, two)[1]
    assert message.startswith("both branches entered comparisons as batch 2: ")
    assert "moved to batch 3, at level 0.00" in message


def test_the_same_set_on_both_sides_is_one_set() -> None:
    one = asked(START, "ab", "ac", "bc", "bd")
    rows, messages = merge(START, one, asked(START, "ab", "ac", "bd", "bc"))
    assert sorted(rows, key=str) == sorted(one, key=str)
    assert messages == []


def test_a_comparison_of_both_sides_has_one_row_in_the_earlier_batch() -> None:
    rows = merged(START, asked(START, "ab", "ac", "bc", "bd"), asked(START, "ab", "ac", "bc", "be"))
    assert sorted(row.identity for row in rows) == ["a~b", "a~c", "b~c", "b~d", "b~e"]
    assert {row.identity: row.batch for row in rows}["b~c"] == 2
    assert sorted(row.batch for row in rows) == [1, 1, 2, 2, 3]


def test_a_side_without_new_comparisons_changes_nothing() -> None:
    more = asked(START, "ab", "ac", "bc")
    assert merge(START, START, more) == (more, [])
    assert merge([], [], more) == (more, [])
    assert merge([], START, START) == (START, [])


def test_a_comparison_is_withdrawn_if_both_sides_have_withdrawn_it() -> None:
    one, both = asked(START, "ab"), asked(START)
    assert [row.withdrawn for row in merged(START, one, both)] == ["", "yes"]


def test_margins_of_both_sides_and_the_larger_from_seed_are_kept() -> None:
    def with_margins(*margins: float, seen: int = 0) -> list[Row]:
        rows: list[Row] = []
        for margin in margins:
            counts = {"a": seen, "b": seen}
            rows = ask(rows, [pair("a", "b", margin)], counts, data="mnist", alpha=0.05, design="open")
        return rows

    (row,) = merged(with_margins(0.2), with_margins(0.2, 0.1), with_margins(0.2, 0.05, 1.0, seen=7))
    assert (row.margin, row.from_seed) == ("0.2 0.05 0.1 1", 7)


def test_rows_of_another_data_set_are_merged_by_themselves() -> None:
    rows = merged(START, asked(START, "ab", data="digits"), asked(START, "ab", data="kmnist"))
    assert [(row.data, row.batch) for row in rows] == [("digits", 1), ("kmnist", 1), ("mnist", 1), ("mnist", 1)]


def test_a_branch_that_is_rebased_commit_by_commit_keeps_every_guarantee() -> None:
    """The second commit is merged with a base in which its first set has another batch than on the new branch."""
    main = asked(START, "ab", "ac", "xy")
    first = asked(START, "ab", "ac", "pq")
    second = asked(first, "ab", "ac", "pq", "rs")
    once = merged(START, main, first)
    rows, _ = merge(first, once, second)
    checked(rows)
    check_against(rows, once, FILE)
    assert sorted(names(rows))[:2] == [(1, "ab"), (1, "ac")]
    assert sorted(row.batch for row in rows) == [1, 1, 2, 3, 4]


def test_any_order_of_merges_of_any_three_branches_keeps_the_levels_within_alpha() -> None:
    generator = np.random.default_rng(0)
    pairs = ["".join(names) for names in itertools.combinations("abcdef", 2)]
    for _ in range(200):
        branches = []
        for _ in range(3):
            rows = START
            for _ in range(generator.integers(1, 4)):
                rows = asked(rows, *generator.choice(pairs, generator.integers(1, 5), replace=False))
            branches.append(rows)
        for one, two, three in itertools.permutations(branches):
            together = merged(START, merged(START, one, two), three)
            assert sum(row.level for row in together) <= 0.05
            assert {row.identity for row in together} == {row.identity for rows in branches for row in rows}
            assert all(total <= batch_level(batch, 1, 0.05) * 1.0000001 for batch, total in shares(together).items())


@pytest.mark.parametrize("alpha", [0.05, 0.1])
def test_a_branch_with_a_new_ledger_is_not_merged_with_one_that_has_the_former(alpha: float) -> None:
    new = ask([], [pair("a", "b")], {}, data="mnist", alpha=alpha, design="open")
    for sides in ((new, START), (START, new)):
        with pytest.raises(UserError, match="so one has started a new ledger"):
            merge(START, *sides)
