"""The approaches: the scores of their variants, and each compared with the one before it in params.yaml."""

from itertools import pairwise

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from many_seeds.output import text as wording
from many_seeds.output.plots import BLUE, ORANGE, panels, styled
from many_seeds.results import Pair, Results
from stages.aggregate import reference_2020
from stages.aggregate.report.figures import log_ticks
from stages.aggregate.report.parts import Column, Part, Plot, Table, images_of, number, text
from stages.aggregate.runs import Runs, VariantRuns
from stages.aggregate.sections import results, variants
from stages.study.params import Params
from stages.study.scores import ACCURACY, SCORES


def parts(runs: Runs, study: Params, compared: Results) -> list[Part]:
    scores, pairs = table(runs, study), compared.of(_pairs(study))
    name = study.statistics.score
    columns: list[Column] = [
        text("approach", "approach"),
        *variants.columns_of_scores(name),
        *variants.column_of_diverged(scores),
    ]
    if scores["accuracy_2020"].notna().any():
        columns.append(number("2020", "accuracy_2020", "{:.2f} %", 100))
    columns.append(text("variant", "variant"))
    of = SCORES[name]
    also = "" if name == ACCURACY else f" and {of.label}"
    unit = "" if of.is_share else f", that of {of.label} in {of.unit}"
    caption = (
        f"Mean test accuracy{also} of n seeds. Each interval alone has {study.statistics.percent} confidence. "
        f"Ensemble: soft voting of the first seeds, at most ten. Standard deviation (sd) in percentage points{unit}. "
        f"{majority_sentence(next(iter(runs.values())), name)}"
    )
    found: list[Part] = [
        Table("approaches", "Every approach", caption, scores, columns),
        Plot("approaches", figure(scores, name), _figure_caption(name), _numbers(scores, name)),
    ]
    if pairs:
        columns = [text("a", "a"), text("b", "b"), *results.columns(pairs)]
        title = "Is approach b better than a?"
        found.append(
            Table("approach_pairs", title, results.direction(pairs), results.table(pairs), columns, on_page=False)
        )
    return found


def majority_sentence(of: VariantRuns, score: str) -> str:
    """The score of predicting the largest class for every test image, which a model should exceed."""
    sizes = np.bincount(of.truth, minlength=len(of.classes))
    largest = int(sizes.argmax())
    shown = [ACCURACY, *([score] if score != ACCURACY and SCORES[score].of_labels is not None else [])]
    predicted = np.full((1, len(of.truth)), largest)
    values = []
    for name in shown:
        of_labels = SCORES[name].of_labels
        assert of_labels is not None
        values.append(f"{SCORES[name].text(float(of_labels(predicted, of.truth)[0]))} {SCORES[name].label}")
    return f"Predicting the largest class, {of.classes[largest]}, for every image has {' and '.join(values)}."


def table(runs: Runs, study: Params) -> pd.DataFrame:
    """A row for each approach: the scores of its variant, the accuracy reported in 2020, and any diverged runs."""
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
    return variants.with_diverged(pd.DataFrame(rows), runs)


def _pairs(study: Params) -> list[Pair]:
    return list(pairwise(study.approaches.values()))


def headline(runs: Runs, study: Params, compared: Results) -> tuple[str, str]:
    """The best approach: a headline, and a sentence with its score and its comparison with the next best."""
    score = SCORES[study.statistics.score]
    sign = -1 if score.lower_is_better else 1
    scores = {approach: float(score.values(runs[name]).mean()) for approach, name in study.approaches.items()}

    def rank(approach: str) -> float:
        return sign * scores[approach]

    names, best = list(scores), max(scores, key=rank)
    scored = _scored(best, scores[best], study)
    if len(scores) == 1:
        n = len(runs[study.approaches[best]].seeds)
        return f"{best}: {score.text(scores[best])}", f"{scored}, on average over n = {n} seeds."
    # Only neighbours in params.yaml are compared: an order that does not depend on the scores.
    place = names.index(best)
    beside = max((i for i in (place - 1, place + 1) if 0 <= i < len(names)), key=lambda i: rank(names[i]))
    (nearest,) = compared.of([(study.approaches[names[beside]], study.approaches[best])])
    ranked = all(result.verdict == "better" for result in compared.of(_pairs(study)))
    alone = list(scores.values()).count(scores[best]) == 1
    form = score.difference_form
    title = f"{best} {'wins' if ranked else 'leads'}" if alone else "No approach leads"
    if not nearest.n:
        return title, f"{scored}. The comparison with {names[beside]} has no seeds yet."
    return title, (
        f"{scored}, {wording.number(nearest.difference, form)} {score.unit} compared with {names[beside]}: "
        f"{nearest.verdict} (interval {wording.interval(nearest, form)}, n = {nearest.n} seeds each)."
    )


def _scored(approach: str, value: float, study: Params) -> str:
    """An approach with its score: "MLP classifies 98.35 % of the test digits correctly"."""
    score = SCORES[study.statistics.score]
    if study.statistics.score == ACCURACY:
        return f"{approach} classifies {score.text(value)} of the test {images_of(study.data.name)} correctly"
    direction = " (lower is better)" if score.lower_is_better else ""
    return f"{approach} has a {score.label} of {score.text(value)}{direction} on the test {images_of(study.data.name)}"


def _figure_caption(score: str) -> str:
    of = SCORES[score]
    if not of.is_share:
        return f"{of.label[:1].upper()}{of.label[1:]} of each approach, with its interval."
    error = "Test error" if score == ACCURACY else f"100 % − {of.label}"
    return f"{error} of each approach, with its interval."


def _numbers(scores: pd.DataFrame, score: str) -> str:
    """The figure in words."""
    unit = " %" if SCORES[score].is_share else ""
    ends = zip(scores["approach"], *_errors(scores, score), strict=True)
    return "; ".join(f"{name}: {mean:.4g}{unit} ({low:.4g} … {high:.4g})" for name, mean, low, high in ends)


def _axis_label(score: str) -> str:
    of = SCORES[score]
    if not of.is_share:
        return f"{of.value_label}, logarithmic"
    return "test error (logarithmic)" if score == ACCURACY else f"100 % − {of.label} (logarithmic)"


def _errors(scores: pd.DataFrame, score: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The mean, the lower and the upper bound of each approach as what is lower for a better score.

    Shares: 100 % − score, in percent. A score of which lower is better: as it is.
    """
    of = SCORES[score]
    names = ("accuracy", "low", "high") if score == ACCURACY else (score, f"{score}_low", f"{score}_high")
    mean, low, high = (scores[name].to_numpy(float) for name in names)
    if of.is_share:
        mean, low, high = 100 * (1 - mean), 100 * (1 - high), 100 * (1 - low)
    return mean, low, high


@styled
def figure(scores: pd.DataFrame, score: str = ACCURACY) -> Figure:
    """The error of each approach on a logarithmic axis, with its interval, and the error of 2020."""
    drawn, axes = panels(0.5 * len(scores) + 0.9)
    ax, unit = axes[0, 0], " %" if SCORES[score].is_share else ""
    y = np.arange(len(scores))[::-1]
    error, low, high = _errors(scores, score)
    finite = np.isfinite(low)
    # An interval may reach 0, which a logarithmic axis does not have.
    low, high = np.where(finite, np.maximum(low, error / 20), error), np.where(finite, high, error)
    if unit:
        high = np.minimum(high, 100)
    floor = max(min(low.min(), error.min()), 0.01 if unit else 1e-4)
    ax.hlines(y, low, high, color=BLUE, linewidth=2.5)
    ax.plot(np.maximum(error, floor), y, "o", color=BLUE, markersize=6, markeredgecolor="white", label="this study")
    earlier = 100 * (1 - scores["accuracy_2020"].astype(float)) if score == ACCURACY else pd.Series(dtype=float)
    if earlier.notna().any():
        ax.plot(earlier, y, "|", color=ORANGE, markersize=14, markeredgewidth=2, label="2020")
    for value, height in zip(error, y, strict=True):
        place = (max(value, floor), height)
        label = f"{value:.2f} %" if unit else f"{value:.4f}"
        ax.annotate(label, place, (0, 9), textcoords="offset points", ha="center")
    ax.set_yticks(y, scores["approach"])
    ax.set_xscale("log")
    ax.set_xlim(floor * 0.7, max(floor, high.max(), earlier.max() if earlier.notna().any() else 0) * 1.4)
    ticks = log_ticks(*ax.get_xlim())
    ax.set_xticks(ticks, [f"{tick:g}{unit}" for tick in ticks])
    ax.xaxis.minorticks_off()
    ax.set_ylim(-0.5, len(scores) - 0.3)
    ax.set_xlabel(_axis_label(score))
    ax.grid(axis="x")
    drawn.legend(loc="outside upper left", ncols=2)
    return drawn
