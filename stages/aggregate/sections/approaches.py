"""The approaches: the scores of their variants, and each compared with the one before it in params.yaml."""

from itertools import pairwise

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from many_seeds import text as wording
from many_seeds.plots import BLUE, ORANGE, panels, styled
from many_seeds.results import Pair, Results
from stages.aggregate import reference_2020
from stages.aggregate.report.parts import Column, Part, Plot, Table, images_of, number, text
from stages.aggregate.runs import Runs
from stages.aggregate.sections import results, variants
from stages.study.params import Params

TICKS = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100)  # percent


def parts(runs: Runs, study: Params, compared: Results) -> list[Part]:
    scores, pairs = table(runs, study), compared.of(_pairs(study))
    columns: list[Column] = [
        text("approach", "approach"),
        text("variant", "variant"),
        *variants.columns_of_scores(),
    ]
    if scores["accuracy_2020"].notna().any():
        columns.append(number("2020", "accuracy_2020", "{:.2f} %", 100))
    caption = (
        f"Mean test accuracy of n seeds. Each interval alone has {study.statistics.percent} confidence. Ensemble: soft "
        "voting of the first seeds, at most ten. Standard deviation (sd) in percentage points."
    )
    found: list[Part] = [
        Table("approaches", "Every approach", caption, scores, columns),
        Plot("approaches", figure(scores), "Test error of each approach, with its interval."),
    ]
    if pairs:
        columns = [text("a", "a"), text("b", "b"), *results.columns(pairs)]
        found.append(Table("approach_pairs", "Is approach b better than a?", "", results.table(pairs), columns))
    return found


def table(runs: Runs, study: Params) -> pd.DataFrame:
    """A row for each approach: the scores of its variant, and the accuracy reported in 2020."""
    earlier = reference_2020.accuracy() if reference_2020.applies_to(study) else {}
    rows = [
        {
            "approach": approach,
            "variant": name,
            **variants.row(runs[name], study.statistics),
            "vote_accuracy": runs[name].ensemble_accuracy,
            "accuracy_2020": earlier.get(name),
        }
        for approach, name in study.approaches.items()
    ]
    return pd.DataFrame(rows)


def _pairs(study: Params) -> list[Pair]:
    return list(pairwise(study.approaches.values()))


def headline(runs: Runs, study: Params, compared: Results) -> tuple[str, str]:
    """The best approach: a headline, and a sentence with its accuracy and its comparison with the next best."""
    scores = {approach: float(runs[name].accuracy.mean()) for approach, name in study.approaches.items()}
    names, best = list(scores), max(scores, key=scores.__getitem__)
    scored = f"{best} classifies {100 * scores[best]:.2f} % of the test {images_of(study.data.name)} correctly"
    if len(scores) == 1:
        n = len(runs[study.approaches[best]].seeds)
        return f"{best}: {100 * scores[best]:.2f} %", f"{scored}, on average over n = {n} seeds."
    # Only neighbours in params.yaml are compared: an order that does not depend on the scores.
    place = names.index(best)
    beside = max((i for i in (place - 1, place + 1) if 0 <= i < len(names)), key=lambda i: scores[names[i]])
    (nearest,) = compared.of([(study.approaches[names[beside]], study.approaches[best])])
    ranked = all(result.verdict == "better" for result in compared.of(_pairs(study)))
    alone = list(scores.values()).count(scores[best]) == 1
    return f"{best} {'wins' if ranked else 'leads'}" if alone else "No approach leads", (
        f"{scored}, {wording.number(nearest.difference, '{:+.2f}')} percentage points compared with {names[beside]}: "
        f"{nearest.verdict} (interval {wording.interval(nearest, '{:+.2f}')}, n = {nearest.n} seeds each)."
    )


@styled
def figure(scores: pd.DataFrame) -> Figure:
    """Test error of each approach on a logarithmic axis, with its interval, and the error of 2020."""
    drawn, axes = panels(0.5 * len(scores) + 0.9)
    ax = axes[0, 0]
    y = np.arange(len(scores))[::-1]
    error, high, low = (100 * (1 - scores[name].to_numpy(float)) for name in ("accuracy", "low", "high"))
    finite = np.isfinite(low)
    # An interval may reach 0 %, which a logarithmic axis does not have.
    low, high = np.where(finite, np.maximum(low, error / 20), error), np.where(finite, np.minimum(high, 100), error)
    floor = max(min(low.min(), error.min()), 0.01)
    ax.hlines(y, low, high, color=BLUE, linewidth=2.5)
    ax.plot(np.maximum(error, floor), y, "o", color=BLUE, markersize=6, markeredgecolor="white", label="this study")
    earlier = 100 * (1 - scores["accuracy_2020"].astype(float))
    if earlier.notna().any():
        ax.plot(earlier, y, "|", color=ORANGE, markersize=14, markeredgewidth=2, label="2020")
    for value, height in zip(error, y, strict=True):
        place = (max(value, floor), height)
        ax.annotate(f"{value:.2f} %", place, (0, 9), textcoords="offset points", ha="center")
    ax.set_yticks(y, scores["approach"])
    ax.set_xscale("log")
    ax.set_xlim(floor * 0.7, max(floor, high.max(), earlier.max() if earlier.notna().any() else 0) * 1.4)
    ticks = [tick for tick in TICKS if ax.get_xlim()[0] <= tick <= ax.get_xlim()[1]]
    ax.set_xticks(ticks, [f"{tick:g} %" for tick in ticks])
    ax.xaxis.minorticks_off()
    ax.set_ylim(-0.5, len(scores) - 0.3)
    ax.set_xlabel("test error (logarithmic)")
    ax.grid(axis="x")
    drawn.legend(loc="outside upper left", ncols=2)
    return drawn
