"""The family of questions, and how its answers are told."""

import math

import numpy as np
import pandas as pd
import pytest

from many_seeds import intervals
from many_seeds.errors import UserError
from stages import params
from stages.aggregate import answers
from tests.aggregate import made


def test_a_pair_that_is_named_twice_is_one_question_whichever_way_round() -> None:
    assert answers.family(made.study()) == [
        *[("wide", "plain"), ("wide", "wider"), ("ridge", "wide")],
    ]


def test_a_pair_needs_the_same_seeds_and_images_on_both_sides() -> None:
    with pytest.raises(ValueError, match=r"\(3, 5\), \(2, 5\)"):
        answers.compared([("a", "b", np.ones((3, 5), bool), np.ones((2, 5), bool))], 1, made.study().statistics)


def test_a_pair_is_compared_on_the_seeds_that_both_variants_have_at_its_share_of_the_level() -> None:
    study, runs = made.study(), made.runs()
    table = answers.answers(runs, [("wide", "wider"), ("ridge", "wider")], study)
    assert table["n"].tolist() == [10, 4]
    differences = np.subtract(made.WRONG["wide"], made.WRONG["wider"][:10]) * 100 / made.IMAGES
    found = intervals.interval(differences, level=0.05 / 3, step=100 / made.IMAGES)
    assert table.loc[0, ["difference", "low", "high"]].tolist() == pytest.approx(
        [differences.mean(), found.low, found.high]
    )
    assert table["verdict"].tolist() == ["better", "undecided"]  # four seeds rule out nothing
    assert table["low"].tolist()[1] == -np.inf


def test_the_other_way_round_the_answer_is_mirrored() -> None:
    table = answers.answers(made.runs(), [("wide", "wider"), ("wider", "wide")], made.study())
    assert table["verdict"].tolist() == ["better", "worse"]
    assert table["low"].tolist() == pytest.approx((-table["high"]).tolist()[::-1])


def test_a_table_has_the_columns_that_programs_read_and_shows_those_that_people_read() -> None:
    table = answers.answers(made.runs(), [("wide", "plain"), ("ridge", "wider")], made.study())
    assert list(table) == [
        *("a", "b", "n", "difference", "low", "high", "verdict", "digits", "seeds_about", "seeds_at_most")
    ]
    cells = dict(
        zip(["verdict", "difference", "interval", "n", "seeds", "digits"], answers.columns("digits"), strict=True)
    )
    row = {**table.iloc[0].to_dict(), "seeds_about": 83, "seeds_at_most": 1204}
    assert cells["seeds"][1](row) == ("83 (1,204)", 83)
    assert cells["seeds"][1]({**row, "seeds_about": None, "seeds_at_most": None})[0] == "–"
    assert cells["interval"][1](table.iloc[1].to_dict()) == ("any", -math.inf)
    assert cells["difference"][1]({"difference": -0.5})[0] == "−0.500"


def test_the_promise_names_the_number_of_intervals_the_design_and_the_images() -> None:
    settings = made.study().statistics
    said = answers.promise(19, 10_000, settings)
    assert said.startswith("The m = 19 intervals hold together with 95 % confidence, however many seeds were added")
    assert "±0.05 points" in said
    assert "10,000 test images" in said
    fixed = settings.model_copy(update={"design": "fixed"})
    assert "a number of seeds that was fixed before" in answers.promise(1, 200, fixed)


def test_a_fixed_design_has_the_narrower_interval_of_one_look() -> None:
    study = made.study()
    fixed = study.model_copy(update={"statistics": study.statistics.model_copy(update={"design": "fixed"})})
    widths = []
    for asked in (study, fixed):
        row = answers.answers(made.runs(), [("wide", "plain")], asked).iloc[0]
        widths.append(row["high"] - row["low"])
    assert widths[1] < widths[0]


def test_how_many_questions_are_decided_is_told_in_words() -> None:
    table = pd.DataFrame({"verdict": ["better", "undecided", "equivalent", "better"]})
    assert answers.in_words(table) == "3 of 4 questions are decided: 2 better, 1 equivalent."
    assert answers.in_words(table.iloc[1:2]) == "0 of 1 questions are decided."


def test_the_figure_draws_what_is_known_and_what_is_not() -> None:
    table = answers.answers(made.runs(), answers.family(made.study()), made.study())
    figure = answers.forest(table, list(table["b"]), 0.05, [0.1, None, None, None])
    words = [text.get_text() for text in figure.axes[0].texts]
    assert "plain" in words
    assert any(word.endswith("undecided") for word in words)
    assert any("2020" in text.get_text() for legend in figure.legends for text in legend.get_texts())


@pytest.mark.parametrize(
    ("field", "old", "new"),
    [("design", "open", "sequential"), ("design", "open", "null"), ("confidence", "0.95", "1.0")],
)
def test_a_setting_that_is_none_is_refused_by_name(field: str, old: str, new: str) -> None:
    text = made.STUDY.replace(f"{field}: {old}", f"{field}: {new}")
    with pytest.raises(UserError, match=f"statistics.{field}"):
        params.parse(text, "params.yaml")
