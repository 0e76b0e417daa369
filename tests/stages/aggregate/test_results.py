"""The comparisons of a study, and how their results are shown."""

import math

import numpy as np
import pandas as pd
import pytest

from many_seeds.errors import UserError
from many_seeds.output import text
from many_seeds.output.forest import forest
from many_seeds.results import Results
from many_seeds.statistics import intervals
from stages.aggregate.sections import results
from stages.study import params
from stages.study.comparisons import named_pairs
from tests.support import study as made


def found(*pairs: tuple[str, str]) -> Results:
    return made.compared(made.runs(), made.study()).of(pairs)


def test_a_pair_that_is_named_twice_is_one_comparison_in_either_order() -> None:
    assert named_pairs(made.study()) == [
        *[("wide", "plain"), ("wide", "wider"), ("ridge", "wide")],
    ]


def test_a_pair_is_compared_on_the_seeds_that_both_variants_have_at_its_level_in_the_ledger() -> None:
    first, second = compared = found(("wide", "wider"), ("ridge", "wide"))
    assert (first.n, second.n, compared.family) == (10, 4, 3)
    differences = np.subtract(made.WRONG["wide"], made.WRONG["wider"][:10]) * 100 / made.IMAGES
    expected = intervals.interval(differences, level=0.04 / 3, resolution=100 / made.IMAGES)
    assert [first.difference, first.low, first.high] == pytest.approx([differences.mean(), expected.low, expected.high])
    assert (first.verdict, second.verdict) == ("better", "undecided")  # four seeds exclude nothing
    assert second.low == -math.inf


def test_a_better_variant_that_diverges_once_in_twenty_seeds_is_undecided_and_the_table_says_why() -> None:
    truth = np.arange(made.IMAGES, dtype=np.uint8) % 10
    wrong = 5 * [20, 21, 22, 20]
    labels = made.predicted([errors - 4 + seed % 3 for seed, errors in enumerate(wrong)], truth)

    def compared() -> Results:
        scores = pd.DataFrame(
            {"seed": range(20), "diverged": [0 if row.min() == row.max() else None for row in labels]}
        )
        plain, wide = made.predicted(wrong, truth), made.variant("wide", labels, truth, scores=scores)
        variants = made.runs() | {"plain": made.variant("plain", plain, truth), "wide": wide}
        return made.compared(variants, made.study()).of([("plain", "wide")])

    assert (compared()[0].verdict, compared().remarks) == ("better", ())
    labels[17] = 0
    found = compared()
    assert (found[0].verdict, found[0].outliers) == ("undecided", 1)
    assert text.rows(found)[0][2][0] == "undecided (outliers: 1 of 40 runs)"
    assert (
        found.remarks[0] == "wide: 1 of 20 runs diverged (seed 17); it counts as a run that predicts the largest class"
    )
    assert "such as diverged ones: wide:plain" in found.remarks[1]


def test_in_the_other_order_the_result_is_mirrored() -> None:
    there, back = found(("wide", "wider"), ("wider", "wide"))
    assert (there.verdict, back.verdict) == ("better", "worse")
    assert (there.low, there.high) == pytest.approx((-back.high, -back.low))


def test_a_table_has_the_columns_that_programs_read() -> None:
    compared = found(("wide", "plain"), ("ridge", "wide"))
    table = results.table(compared)
    assert list(table) == [
        *("a", "b", "score", "n", "difference", "low", "high", "verdict"),
        *("low_new_images", "high_new_images", "verdict_new_images"),
        *("seeds_projected", "seeds_worst_case", "images_needed", "outliers"),
    ]
    assert table["score"].tolist() == ["accuracy", "accuracy"]
    assert table["seeds_projected"].tolist() == [one.seeds_projected for one in compared]
    assert "." not in "".join(table[["seeds_projected", "seeds_worst_case"]].to_csv(header=False, index=False))


def test_the_cells_of_a_table_are_those_of_the_text() -> None:
    compared = found(("wide", "plain"), ("ridge", "wide"))
    columns = dict(results.columns(compared))
    assert list(columns) == text.header(compared)[2:]
    rows = results.table(compared).astype(object).where(lambda table: table.notna(), None)
    for row, expected in zip(rows.to_dict("records"), text.rows(compared), strict=True):
        assert [cell(row) for cell in columns.values()] == expected[2:]
        step = {"step": row["b"], **{name: value for name, value in row.items() if name not in ("a", "b")}}
        assert [cell(step) for cell in columns.values()] == expected[2:]
    assert columns["interval"](rows.iloc[1].to_dict()) == ("any", -math.inf)


def test_the_guarantee_names_the_number_of_intervals_the_design_and_the_images() -> None:
    guarantee = text.guarantee(found(("wide", "plain")))[0]
    assert guarantee.startswith("The 3 intervals hold simultaneously with 95 % confidence, at any number of seeds")
    assert "±0.05 percentage points" in guarantee
    assert "generalise to other seeds on these 200 test images" in guarantee
    study = made.study()
    fixed = study.model_copy(update={"statistics": study.statistics.model_copy(update={"design": "fixed"})})
    found_fixed = made.compared(made.runs(), fixed)
    assert "a number of seeds that was fixed before" in text.guarantee(found_fixed)[0]


def test_a_fixed_design_has_the_narrower_interval_of_one_look() -> None:
    study = made.study()
    fixed = study.model_copy(update={"statistics": study.statistics.model_copy(update={"design": "fixed"})})
    widths = []
    for asked in (study, fixed):
        result = made.compared(made.runs(), asked)[0]
        widths.append(result.high - result.low)
    assert widths[1] < widths[0]


def test_the_figure_shows_finite_and_infinite_intervals() -> None:
    compared = found(*named_pairs(made.study()))
    figure = forest(compared, [one.b for one in compared], [0.1, None, None], "2020, one seed")
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
