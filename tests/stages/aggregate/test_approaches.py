import pytest

from stages.aggregate.sections import approaches
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
