"""The scores compared with the ten of the notebook of 2020."""

import pandas as pd

from many_seeds.statistics import intervals
from stages.aggregate import reference_2020
from stages.aggregate.report.parts import Part, Table, number, span, text
from stages.aggregate.runs import Runs
from stages.study.params import Params

SEEDS = 10  # as many as in 2020


def parts(runs: Runs, study: Params) -> list[Part]:
    found = table(runs, study)
    if found.empty:
        return []
    margin = study.statistics.reproduction_margin
    caption = (
        f"Reproduced: Welch's interval of the difference lies within ±{margin:g} percentage points, on the first "
        f"{SEEDS} seeds. These intervals hold simultaneously with {study.statistics.percent} confidence."
    )
    columns = [
        text("variant", "variant"),
        text("reproduced", "reproduced"),
        number("difference (percentage points)", "difference", "{:+.3f}"),
        span("interval", "low", "high", "{:+.3f}"),
        number("n", "n"),
        number("test accuracy", "accuracy", "{:.2f} %", 100),
        number("n in 2020", "n_2020"),
        number("accuracy in 2020", "accuracy_2020", "{:.2f} %", 100),
    ]
    return [Table("reproduction", "Reproduction of the notebook of 2020", caption, found, columns)]


def table(runs: Runs, study: Params) -> pd.DataFrame:
    """A row for each variant that the notebook measured over seeds; none for another data set."""
    if not reference_2020.applies_to(study):
        return pd.DataFrame()
    measured = {
        str(name): of.to_numpy(float)
        for name, of in reference_2020.scores().groupby("variant", sort=False)["test_accuracy"]
        if name in runs
    }
    settings, rows = study.statistics, []
    for name, theirs in measured.items():
        ours = runs[name].accuracy[:SEEDS]
        found = intervals.welch_interval(
            100 * theirs,
            100 * ours,
            level=settings.alpha / len(measured),
            resolution=100 / len(runs[name].truth),
        )
        same = intervals.verdict(found, settings.reproduction_margin) == "equivalent"
        difference = float(100 * (ours.mean() - theirs.mean()))
        rows.append(
            {
                "variant": name,
                "n": len(ours),
                "accuracy": float(ours.mean()),
                "n_2020": len(theirs),
                "accuracy_2020": float(theirs.mean()),
                "difference": difference,
                "low": found.low,
                "high": found.high,
                "reproduced": "yes" if same else "not shown",
            }
        )
    return pd.DataFrame(rows)
