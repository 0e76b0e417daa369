import numpy as np
import pandas as pd
import pytest

from stages.aggregate.report.figures import log_ticks
from stages.aggregate.sections import approaches
from stages.aggregate.sections.ridge import common_median
from tests.support import study as made


def titled(**wrong: list[int]) -> tuple[str, str]:
    runs = made.runs()
    for name, mistakes in wrong.items():
        truth = runs[name].truth
        runs[name] = made.variant(name, made.predicted(mistakes, truth), truth)
    return approaches.headline(runs, made.study(), made.compared(runs, made.study()))


def test_what_is_better_than_all_others_wins_and_the_sentence_has_its_interval() -> None:
    title, sentence = titled(ridge=[40, 41, 42, 40, 39, 41, 40, 42, 41, 40])
    assert title == "big MLP wins"
    assert sentence.startswith("big MLP classifies 98.50 % of the test digits correctly, +8.")
    assert "(interval +" in sentence
    assert "n = 10 seeds each" in sentence


def test_what_too_few_seeds_have_been_compared_with_only_leads() -> None:
    title, sentence = titled()  # ridge has four seeds
    assert title == "big MLP leads"
    assert "points compared with MLP: better" in sentence


def test_of_equal_scores_none_leads_and_no_error_at_all_can_be_drawn() -> None:
    nothing = dict.fromkeys(("ridge", "wide", "wider"), [0] * 10)
    assert titled(**nothing)[0] == "No approach leads"
    runs = {
        name: made.variant(name, made.predicted([0] * 10, run.truth), run.truth) for name, run in made.runs().items()
    }
    figure = approaches.figure(approaches.table(runs, made.study()))
    assert figure.axes[0].get_xlim()[0] < 0.01 < figure.axes[0].get_xlim()[1]


def test_one_approach_alone_has_its_mean_in_the_headline() -> None:
    study = made.study().model_copy(update={"approaches": {"MLP": "wide"}})
    assert approaches.headline(made.runs(), study, made.compared(made.runs(), study))[0] == "MLP: 89.70 %"


def test_a_table_of_approaches_shows_each_by_itself() -> None:
    table = approaches.table(made.runs(), made.study())
    assert table["n"].tolist() == [4, 10, 12]
    assert table["accuracy"].tolist() == pytest.approx([0.79625, 0.897, 0.985])
    assert table["accuracy_2020"].isna().all()  # of MNIST alone


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.02, 0.9, ["0.02", "0.05", "0.1", "0.2", "0.5"]),
        (0.31, 0.44, ["0.35", "0.4"]),
        (0.69, 0.6932, ["0.69", "0.691", "0.692", "0.693"]),
        (0.0001, 50, ["0.0001", "0.001", "0.01", "0.1", "1", "10"]),
    ],
)
def test_a_logarithmic_axis_has_several_round_ticks_whatever_its_span(
    low: float, high: float, expected: list[str]
) -> None:
    assert [f"{tick:g}" for tick in log_ticks(low, high)] == expected


def test_the_median_by_alpha_is_of_values_that_all_seeds_have() -> None:
    points = [(0, 1.0, 0.3), (0, 2.0, 0.1), (1, 1.0, 0.5), (1, 2.0, 0.3), (1, 4.0, 0.2), (2, 1.0, np.nan)]
    grid = pd.DataFrame(points, columns=["seed", "alpha", "error"])  # seed 1 extended it, seed 2 diverged
    assert common_median(grid).to_dict() == pytest.approx({1.0: 0.4, 2.0: 0.2})
