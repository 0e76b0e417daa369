import numpy as np
import pytest

from many_seeds.statistics import intervals
from stages.aggregate import reference_2020
from stages.aggregate.sections import reproduction
from stages.study import params
from tests import ROOT
from tests.support import study as made


def test_the_first_ten_seeds_are_held_against_2020_by_welchs_interval() -> None:
    study = params.load(ROOT / params.PARAMS)
    truth = np.zeros(10_000, np.uint8)
    wrong = {"mlp_tuned": [166] * 10 + [5000] * 5, "cnn_tuned": [90, 60] * 5}
    runs = {name: made.variant(name, made.predicted(of, truth), truth) for name, of in wrong.items()}
    table = reproduction.table(runs, study).set_index("variant")
    assert table["n"].tolist() == [10, 10]  # later seeds have no part in it
    theirs = reference_2020.scores().query("variant == 'mlp_tuned'")["test_accuracy"].to_numpy()
    # Two intervals, so each at 0.05 / 2.
    found = intervals.welch_interval(100 * theirs, np.full(10, 98.34), level=0.025, resolution=0.01)
    assert table.loc["mlp_tuned", ["low", "high"]].tolist() == pytest.approx([found.low, found.high])
    assert table.loc["mlp_tuned", "reproduced"] == "yes"
    assert table.loc["cnn_tuned", "reproduced"] == "not shown"


def test_another_data_set_reproduces_nothing() -> None:
    assert reproduction.table(made.runs(), made.study()).empty
