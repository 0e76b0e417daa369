"""Races: how params.yaml names them, their state, and the table of the report."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from many_seeds.errors import UserError
from stages.aggregate.runs import VariantRuns
from stages.aggregate.sections import races
from stages.study import params
from stages.study.params import Params
from stages.study.races import RaceState, named_races, race_states, validation_resolution
from tests.support import study as made

UNITS = "units_race: {variants: [plain, wide, wider]}"


def study_with(*entries: str, old: str = "", new: str = "") -> Params:
    """The synthetic study with these races."""
    listed = "".join(f"\n  {entry}" for entry in entries)
    return params.parse(f"{made.STUDY.replace(old, new)}races:{listed}\n", "params.yaml")


def states(study: Params, runs: Mapping[str, VariantRuns], from_seed: int = 0) -> list[RaceState]:
    ledger = [replace(row, from_seed=from_seed) for row in made.ledger_of(study)]
    return race_states(runs, named_races(study), study, ledger)


def with_validation(accuracies: Mapping[str, np.ndarray]) -> dict[str, VariantRuns]:
    """The runs of the synthetic study, with these accuracies on the validation splits."""
    runs = made.runs()
    for name, values in accuracies.items():
        runs[name] = replace(runs[name], scores=pd.DataFrame({"seed": range(len(values)), "dev_accuracy": values}))
    return runs


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("one: {variants: [wide]}", ["races.one.variants", "at least 2 items", "received ['wide']"]),
        ("one: {variants: [wide, wide]}", ["races.one: variants must name each variant once", "['wide', 'wide']"]),
        ("one: {variants: [wide, wade]}", ["races.one names the variant 'wade', but variants has only ridge, plain"]),
        ("Best one: {variants: [wide, plain]}", ["races.Best one: a name should be lower-case letters"]),
        ("true: {variants: [wide, plain]}", ["races: a name should be text, in quotes if need be; received True"]),
        ("wide: {variants: [wide, plain]}", ["races.wide should have a name that is not the name of a variant"]),
        ("one: {variants: [wide, plain]}\n  one: {variants: [wide, wider]}", ["duplicate key"]),
        (
            "one: {variants: [wide, plain]}\n  two: {variants: [plain, wide], margin: 0.5}",
            ["races.one and races.two are one race, by accuracy: remove one of them"],
        ),
        ("one: {variants: [wide, plain], margin: 0}", ["races.one.margin", "greater than 0"]),
        (
            "one: {variants: [wide, plain], score: loss}",
            ["races.one.score: should be one of accuracy, ", "log_loss, validation_accuracy", "received 'loss'"],
        ),
        (
            "one: {variants: [wide, plain], score: log_loss}",
            ["races.one by log_loss should have a margin of its own, in nats of log_loss"],
        ),
        ("one: {variants: [ridge, plain], score: log_loss, margin: 0.1}", ["ridge has no log loss"]),
        (
            "one: {variants: [plain, wide, late], score: validation_accuracy}",
            [
                "races.one by validation_accuracy should have variants with a validation split, received late",
                "`dev_split: true`",
            ],
        ),
    ],
)
def test_the_error_for_an_invalid_race_has_its_name_the_expected_and_the_received_value(
    entry: str, expected: list[str]
) -> None:
    late = "  late: {<<: *plain, dev_split: false}\napproaches:"
    with pytest.raises(UserError) as error:
        study_with(entry, old="approaches:", new=late)
    for part in expected:
        assert part in str(error.value)


def test_comparisons_have_no_validation_accuracy() -> None:
    with pytest.raises(UserError, match=r"should be one of accuracy, .*received 'validation_accuracy'"):
        study_with(old="b: plain}", new="b: plain, score: validation_accuracy}")


def test_score_and_margin_of_a_race_are_those_of_the_study_unless_it_names_others() -> None:
    named = named_races(
        study_with(
            UNITS,
            "by_validation: {variants: [plain, wide], score: validation_accuracy}",
            "by_loss: {variants: [plain, wide], score: log_loss, margin: 0.01}",
        )
    )
    assert [(race.name, race.score, race.margin) for race in named] == [
        ("units_race", "accuracy", 0.05),
        ("by_validation", "validation_accuracy", 0.05),
        ("by_loss", "log_loss", 0.01),
    ]


def test_the_margin_of_the_validation_accuracy_has_no_default_in_a_study_by_another_score() -> None:
    with pytest.raises(UserError, match=r"races\.one by validation_accuracy should have a margin of its own"):
        study_with(
            "one: {variants: [plain, wide], score: validation_accuracy}",
            old="design: open",
            new="design: open, score: balanced_accuracy",
        )


def test_clearly_worse_variants_are_eliminated_and_the_one_that_is_left_is_the_winner() -> None:
    (state,) = states(study_with(UNITS), made.runs())
    first, *others = state.rows()
    assert (first["variant"], first["state"]) == ("wider", "winner")
    wrong = made.WRONG["wider"][: first["seeds"]]
    assert first["mean"] == pytest.approx(1 - np.mean(wrong) / made.IMAGES)
    assert {row["variant"] for row in others} == {"plain", "wide"}
    for row in others:
        assert row["eliminated_by"] == "wider"
        assert row["state"] == f"eliminated after {row['eliminated_after']} seeds by wider"
    assert state.standing.reason == "one left"
    assert state.seeds_projected is None


def test_the_end_of_an_open_race_is_projected_from_its_leader() -> None:
    (state,) = states(study_with("one: {variants: [plain, wide]}"), made.runs())
    leader, other = state.rows()
    assert (leader["variant"], leader["state"], other["state"]) == ("wide", "leader", "in the race")
    assert state.seeds == 10
    assert state.seeds_projected is not None
    assert state.seeds_projected > 10


def test_only_seeds_from_the_first_one_in_the_ledger_count() -> None:
    study = study_with(UNITS)
    (state,) = states(study, made.runs(), from_seed=2)
    (later,) = states(
        study,
        {name: replace(of, predicted=np.roll(of.predicted, -2, axis=0)) for name, of in made.runs().items()},
    )
    assert state.standing.eliminated == later.standing.eliminated
    assert state.seeds == 2 + state.standing.n
    assert "Seeds are counted from seed 2 on" in races.parts([state], study)[0].caption
    (early,) = states(study, made.runs(), from_seed=10)
    assert (early.standing.n, early.standing.leader) == (0, None)
    assert [row["mean"] for row in early.rows()] == [None] * 3
    assert (early.summary, races.figures([early])) == ("no seed counts yet", [])


def test_a_race_by_validation_accuracy_does_not_look_at_the_test_images() -> None:
    study = study_with("units_race: {variants: [plain, wide, wider], score: validation_accuracy}")
    correct = 280 + np.array([[0, 1, 2] * 4, [-1, 2, 3] * 4, [-41, -42, -40] * 4])
    accuracies = (correct / 288).astype(np.float32)
    (state,) = states(study, with_validation(dict(zip(("plain", "wide", "wider"), accuracies, strict=True))))
    assert list(state.standing.eliminated) == ["wider"]
    assert {row["variant"]: row["mean"] for row in state.rows()}["plain"] == pytest.approx(
        accuracies[0][: state.standing.n].mean()
    )


def test_the_size_of_a_validation_split_is_found_in_the_accuracies() -> None:
    def resolution(*correct: Sequence[int], size: int) -> float:
        names = ("plain", "wide")
        values = [(np.array(numbers) / size).astype(np.float32) for numbers in correct]
        runs = with_validation(dict(zip(names, values, strict=True)))
        return validation_resolution([runs[name] for name in names])

    assert resolution([11_800, 11_803, 11_871], [11_900, 11_905, 11_893], size=12_000) == pytest.approx(100 / 12_000)
    # Of the first seed, the accuracies are 3/4 and 1.
    assert resolution([216, 271], [288, 280], size=288) == pytest.approx(100 / 288)
    assert resolution([216], [288], size=288) == pytest.approx(100 / 4)
    assert resolution([123_457], [234_567], size=271_829) <= 100 / 1_000  # larger than any size that is sought


def test_a_study_finds_the_rows_of_its_races() -> None:
    study = study_with(UNITS)
    rows = made.ledger_of(study)
    assert (rows[-1].kind, rows[-1].a, rows[-1].b) == ("race", "plain wide wider", "")
    with pytest.raises(UserError, match=r"a row for each race .* missing: units_race\. `dvc repro ledger` enters them"):
        race_states(made.runs(), named_races(study), study, rows[:-1])


def test_the_report_has_a_table_for_each_race_and_none_without_races() -> None:
    study = study_with(UNITS, "two: {variants: [plain, wide]}")
    units, two = races.parts(states(study, made.runs()), study)
    assert (units.name, two.name) == ("race_units_race", "race_two")
    assert "an elimination is no verdict on its pair" in units.caption
    assert "an elimination is no verdict on its pair" not in two.caption
    text = units.markdown()
    assert "| wider | 98.5" in text
    assert "by wider |" in text
    assert list(units.data) == ["variant", "mean", "seeds", "state", "eliminated_after", "eliminated_by"]
    scores = pd.DataFrame({"seed": range(10), "diverged": [np.nan, 1, *[np.nan] * 8]})
    runs = made.runs() | {"wide": replace(made.runs()["wide"], scores=scores)}
    of_units, _ = races.parts(states(study, runs), study)
    assert "wide: 1 of 10 runs diverged (seed 1)" in of_units.caption
    assert races.parts(states(made.study(), made.runs()), made.study()) == []


def test_the_figure_of_a_race_has_its_leader_against_each_other_variant() -> None:
    ended, going = states(study_with(UNITS, "two: {variants: [plain, wide]}"), made.runs())
    assert ended.summary == "wider wins after 7 seeds; eliminated: plain, wide after 7"
    assert going.summary == "2 of 2 variants are in the race after 10 seeds: wide (leader), plain"
    of_ended, of_going = races.figures([ended, going])
    shown = [text.get_text().replace("\u200e", "") for text in of_ended.figure.axes[0].texts]
    assert shown == ["wide → wider", "+8.9 out after 7 seeds", "plain → wider", "+9.0 out after 7 seeds"]
    assert of_going.figure.axes[0].texts[1].get_text().endswith(" in the race")
    assert "the guarantee is for the winner" in of_ended.figure.axes[0].get_xlabel()


def test_a_race_in_a_study_of_the_fixed_design_says_that_its_intervals_are_of_the_open_one() -> None:
    study = study_with("one: {variants: [plain, wide]}", old="design: open", new="design: fixed")
    (state,) = states(study, made.runs())
    (of_open,) = states(study_with("one: {variants: [plain, wide]}"), made.runs())
    assert state.with_leader() == of_open.with_leader()
    (table,) = races.parts([state], study)
    assert "It has not ended; seeds are added in the open design only." in table.caption
    assert "valid at any number of seeds, wider than those of the fixed design" in table.caption
