"""Tables whose numbers can be told by hand."""

import itertools

import numpy as np
import pandas as pd
import pytest

from stages import params
from stages.aggregate import present, tables
from stages.aggregate.runs import VariantRuns
from tests.conftest import ROOT, STUDY


def runs(name: str, predicted: list[list[int]], hardest: list[int]) -> VariantRuns:
    """Seeds that see these classes in images that all show a 0."""
    labels = np.array(predicted, np.uint8)
    nothing, empty = np.zeros(0), pd.DataFrame()
    return VariantRuns(
        name=name, predicted=labels, truth=np.zeros(labels.shape[1], np.uint8), is_network=True, scores=empty,
        curves=empty, calibration=empty, ensemble=nothing, hardest=np.array(hardest), hardest_images=nothing,
        weights=None,
    )  # fmt: skip


def test_an_image_that_is_hard_for_all_is_among_the_hardest_though_it_is_the_hardest_of_none() -> None:
    # Image 1 is wrong in four runs of six, image 0 and 2 in three each.
    a = runs("a", [[5, 5, 0], [5, 7, 0], [5, 0, 0]], hardest=[0])
    b = runs("b", [[0, 7, 3], [0, 7, 3], [0, 0, 3]], hardest=[2])
    table = tables.hardest({"a": a, "b": b}, most=2)
    assert table.to_dict("records") == [
        {"image": 1, "truth": 0, "seen": 7, "wrong": 4, "runs": 6},
        {"image": 0, "truth": 0, "seen": 5, "wrong": 3, "runs": 6},
    ]


def test_2020_stands_beside_its_own_steps_alone() -> None:
    study = params.load(ROOT / params.PARAMS)
    then = tables.differences_2020()
    assert then["mlp_1_wider", "mlp_2_ten_epochs"] == pytest.approx(0.54)
    assert then["cnn_reference", "cnn_2_dropout"] == pytest.approx(0.10)
    # Nobody scored the first step's predecessor then; several steps at once are another comparison.
    assert set(then) == {pair for steps in study.chains.values() for pair in itertools.pairwise(steps)} - {
        ("mlp_reference", "mlp_1_wider")
    }
    assert ("cnn_reference", "cnn_tuned") not in then


def test_a_step_says_what_its_recipe_changes() -> None:
    study = params.parse(STUDY, "the tests' study")
    plain, watched, ridge = (study.recipe(name) for name in ("plain", "watched", "ridge"))
    assert params.in_words(params.differences(plain, watched)) == (
        'decay: null → {"start": 1, "rate": 0.5}, epochs: 2 → 3, dev_split: false → true, patience: null → 2, '
        "restore_best: false → true"
    )
    assert params.in_words(params.differences(ridge, plain)) == "family: linear → network"
    assert params.differences(plain, plain) == {}


@pytest.mark.parametrize(
    ("verdict", "low", "title"),
    [
        ("better", 0.1, "B wins"),
        ("better", -0.1, "B wins on these test digits"),
        ("undecided", -0.1, "B leads, undecided"),
        ("equivalent", -0.1, "B and A are equivalent"),
    ],
)
def test_the_headline_claims_no_more_than_the_intervals(verdict: str, low: float, title: str) -> None:
    scores = pd.DataFrame({"approach": ["A", "B"], "accuracy": [0.97, 0.98], "n": 10})
    duel = {"difference": 1.0, "verdict": verdict, "digits_low": low, "digits_high": 2.0, "n": 10}
    said, sentence = present.headline(scores, pd.DataFrame([duel]), params.parse(STUDY, "the tests' study"))
    assert said == title
    assert f"{low:+.2f} … +2.00" in sentence
