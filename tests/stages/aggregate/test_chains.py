"""What each step changes, what 2020 says of it, and what choosing a step costs."""

import itertools

import numpy as np
import pytest

from stages.aggregate import reference_2020
from stages.aggregate.sections import chains
from stages.aggregate.sections.chains import selection
from stages.study import params
from tests import ROOT
from tests.support import study as made


def test_a_step_says_what_its_recipe_changes_and_what_resulted() -> None:
    runs, study = made.runs(), made.study()
    compared = made.compared(runs, study).of(list(itertools.pairwise(study.chains["units"])))
    table = chains.table(study, compared)
    assert table["step"].tolist() == ["wide", "wider"]
    assert table["change"].tolist() == ["units: [8] → [16]", "units: [16] → [32]"]
    assert table["verdict"].tolist() == ["undecided", "better"]
    assert table["difference_2020"].isna().all()  # of MNIST alone


def test_2020_stands_beside_its_own_steps_alone() -> None:
    study = params.load(ROOT / params.PARAMS)
    then = reference_2020.differences()
    assert then["mlp_1_wider", "mlp_2_ten_epochs"] == pytest.approx(0.54)
    assert then["cnn_reference", "cnn_2_dropout"] == pytest.approx(0.10)
    # Nobody scored the first step's predecessor then; several steps at once are another comparison.
    assert set(then) == {pair for chain in ("mlp", "cnn") for pair in itertools.pairwise(study.chains[chain])} - {
        ("mlp_reference", "mlp_1_wider")
    }
    assert ("cnn_reference", "cnn_tuned") not in then


TEST = np.array([[0.90, 0.94, 0.92], [0.93, 0.91, 0.92]])


def test_selection_reports_the_best_and_is_worth_the_rest() -> None:
    dev = np.array([[0.8, 0.7, 0.90], [0.9, 0.6, 0.95]])
    found = selection(TEST, dev)
    # By test: steps 1, 0 and, of equals, 0.
    assert found.reported_by_test == pytest.approx((0.93 + 0.94 + 0.92) / 3)
    # At the other seeds: (0.91 + 0.92) / 2, (0.90 + 0.92) / 2, (0.90 + 0.94) / 2.
    assert found.worth_by_test == pytest.approx((0.915 + 0.91 + 0.92) / 3)
    assert found.optimism == pytest.approx(1.5)
    # By dev: steps 1, 0, 1; the last is worth (0.93 + 0.91) / 2.
    assert found.worth_by_dev == pytest.approx((0.915 + 0.91 + 0.92) / 3)


def test_selection_by_dev_chooses_among_steps_with_a_dev_split() -> None:
    found = selection(np.r_[TEST, [[0.99] * 3]], np.array([[0.4] * 3, [0.5] * 3, [np.nan] * 3]))
    # Always step 1: (0.91 + 0.92) / 2, (0.93 + 0.92) / 2, (0.93 + 0.91) / 2.
    assert found.worth_by_dev == pytest.approx((0.915 + 0.925 + 0.92) / 3)
    assert found.competed == 2


def test_selection_by_dev_needs_two_steps_with_a_dev_split() -> None:
    found = selection(TEST, np.array([[np.nan] * 3, [0.5, 0.5, 0.5]]))
    assert (found.worth_by_dev, found.competed) == (None, 1)


def test_selection_without_any_dev_split_has_no_honest_way() -> None:
    found = selection(TEST, np.full_like(TEST, np.nan))
    assert found.worth_by_dev is None
    assert found.worth_by_test == pytest.approx(0.915)


def test_selection_at_one_seed_has_no_worth() -> None:
    found = selection(TEST[:, :1], TEST[:, :1])
    assert found.reported_by_test == 0.93
    assert (found.worth_by_test, found.worth_by_dev, found.optimism) == (None, None, None)


def test_selection_refuses_a_step_with_dev_scores_for_some_seeds() -> None:
    with pytest.raises(ValueError, match="for all seeds of a step or for none"):
        selection(TEST, np.array([[np.nan, 0.9, 0.9], [0.9, 0.9, 0.9]]))


def test_selection_refuses_missing_test_scores() -> None:
    with pytest.raises(ValueError, match="test score for every step"):
        selection(np.full((1, 2), np.nan), np.ones((1, 2)))
