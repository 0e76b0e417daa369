import math

import numpy as np
import pytest

from many_seeds.errors import UserError
from stages.recipes.shared.epochs import EarlyStopping, batch_order, check_finite, curve_row, run_facts
from stages.recipes.shared.recipe import training_indices

LOSSES = [1.0, 0.7, 0.8, 0.6, 0.6, 0.9, 0.7, 0.5]


def test_early_stopping_ends_after_patience_epochs_without_a_new_lowest_loss() -> None:
    stopping, improved, stops = EarlyStopping(patience=3), [], []
    for epoch, loss in enumerate(LOSSES[:7]):
        improved.append(stopping.update(epoch, loss))
        stops.append(stopping.stop)
    assert improved == [True, True, False, True, False, False, False]  # an equal loss is not lower
    assert stops == [False] * 6 + [True]
    assert (stopping.best_epoch, stopping.best_loss) == (3, 0.6)


def test_without_patience_the_best_epoch_is_known_and_training_goes_on() -> None:
    stopping = EarlyStopping(None)
    for epoch, loss in enumerate(LOSSES):
        stopping.update(epoch, loss)
    assert (stopping.best_epoch, stopping.stop) == (7, False)


def test_without_a_validation_split_the_last_epoch_is_the_best() -> None:
    stopping = EarlyStopping(patience=1)
    assert [stopping.update(epoch, None) for epoch in range(3)] == [False] * 3
    assert (stopping.best_epoch, stopping.stop) == (2, False)


def test_training_indices_are_those_outside_the_validation_split() -> None:
    np.testing.assert_array_equal(training_indices(6, np.array([1, 4])), [0, 2, 3, 5])
    np.testing.assert_array_equal(training_indices(3, None), [0, 1, 2])


def test_a_batch_order_depends_on_seed_and_epoch_alone() -> None:
    orders = {(seed, epoch): tuple(batch_order(20, seed, epoch)) for seed in range(3) for epoch in range(3)}
    assert len(set(orders.values())) == 9
    assert all(sorted(order) == list(range(20)) for order in orders.values())
    assert orders[2, 1] == tuple(batch_order(20, 2, 1))


def test_a_row_has_the_last_learning_rate_and_validation_scores_where_there_are_some() -> None:
    scores, rates = {"loss": 0.5, "accuracy": 0.75}, np.array([0.5, 0.25], np.float32)
    plain = {"epoch": 3, "loss": 0.5, "accuracy": 0.75, "learning_rate": 0.25}
    assert curve_row(3, scores, None, rates) == plain
    row = curve_row(3, scores, {"loss": 1.0, "accuracy": 0.5}, 0.1)
    assert list(row) == ["epoch", "loss", "accuracy", "val_loss", "val_accuracy", "learning_rate"]
    assert row == {**plain, "val_loss": 1.0, "val_accuracy": 0.5, "learning_rate": 0.1}


@pytest.mark.parametrize("name", ["loss", "val_loss"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_no_number_is_refused(name: str, value: float) -> None:
    row = {"epoch": 2, "loss": 0.5, "val_loss": 0.5, "learning_rate": 1e30}
    check_finite(row)
    with pytest.raises(UserError, match=rf"^{name} is {value} after epoch 2: training diverges; .*it was 1e\+30"):
        check_finite({**row, name: value})


def test_a_runs_facts_are_those_of_the_epoch_that_is_kept() -> None:
    curve = [{"val_loss": 0.5, "val_accuracy": 0.8}, {"val_loss": 0.6, "val_accuracy": 0.9}]
    assert run_facts(curve, 0) == {"epochs": 2, "best_epoch": 0, "dev_loss": 0.5, "dev_accuracy": 0.8}
    assert run_facts([{"loss": 0.1}], 0) == {"epochs": 1, "best_epoch": 0, "dev_loss": None, "dev_accuracy": None}
