import numpy as np
import pandas as pd
import pytest

from stages.aggregate.sections.calibration import expected_error, figure, mean_error
from tests.support import study as made


def test_calibration_error_weighs_bins_by_their_images() -> None:
    # (1 * 0.4 + 3 * 0.2) / 4
    error = expected_error(np.array([1, 3]), np.array([0.6, 0.9]), np.array([1.0, 0.7]))
    assert error == pytest.approx(0.25)


def test_calibration_error_refuses_bins_without_images() -> None:
    with pytest.raises(ValueError, match="received 0"):
        expected_error(np.array([]), np.array([]), np.array([]))


def test_no_two_variants_share_colour_and_marker() -> None:
    runs = made.runs()
    lines = figure([runs["wide"]] * 20).axes[0].get_lines()[1:]
    assert len({(line.get_color(), line.get_marker()) for line in lines}) == 20


def test_a_variant_without_probabilities_has_no_calibration_error() -> None:
    columns = ["seed", "images", "confidence", "accuracy"]
    bins = pd.DataFrame([[0, 1, 0.6, 1], [0, 3, 0.9, 0.7], [1, 4, 0.5, 0.4]], columns=columns)
    assert mean_error(bins) == pytest.approx((0.25 + 0.1) / 2)
    assert mean_error(bins.head(0)) is None
