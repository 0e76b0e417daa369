"""The questions that params.yaml asks, as one family of pairs, and the answer of each: its interval and verdict."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stages import sequential
from stages.aggregate.drawing import BLUE, FAINT, GREEN, GREY, ORANGE, panels, styled
from stages.aggregate.parts import NOTHING, Cell, Column, Row, number, plain_rows, span, text, written
from stages.aggregate.runs import Runs, shared_seeds
from stages.params import Params, Statistics

COLORS = {"better": BLUE, "worse": ORANGE, "equivalent": GREEN, "undecided": GREY}
COLUMNS = ["a", "b", "n", "difference", "low", "high", "verdict", "digits", "seeds_about", "seeds_at_most"]

Pair = tuple[str, str]


def family(study: Params) -> list[Pair]:
    """Every pair that params.yaml names, once: comparisons, steps of chains, and neighbouring approaches."""
    named = [(pair.a, pair.b) for pair in study.comparisons]
    named += [step for chain in study.chains.values() for step in pairwise(chain)]
    named += pairwise(study.approaches.values())
    questions: dict[frozenset[str], Pair] = {}
    for pair in named:
        questions.setdefault(frozenset(pair), pair)  # the other way round it is the same question
    return list(questions.values())


def answers(runs: Runs, pairs: Iterable[Pair], study: Params) -> pd.DataFrame:
    """A row for each of these pairs, with its share of the family's level."""
    rows = []
    for a, b in pairs:
        n = shared_seeds([runs[a], runs[b]])
        rows.append((a, b, runs[a].right[:n], runs[b].right[:n]))
    return compared(rows, len(family(study)), study.statistics)


def compared(
    pairs: Iterable[tuple[str, str, np.ndarray, np.ndarray]], questions: int, settings: Statistics
) -> pd.DataFrame:
    """Is b better than a? A row for each pair, with the columns of the tables.

    Args:
        pairs: names of a and b, and which test images their runs get right: bool [seeds, images], paired by row.
        questions: pairs in the family: all their intervals hold together.
        settings: of params.yaml.

    Raises:
        ValueError: the arrays of a pair are not of one shape [seeds, images].
    """
    rows = []
    for a, b, right_a, right_b in pairs:
        if right_a.shape != right_b.shape or right_a.ndim != 2:
            raise ValueError(
                f"Expected two arrays of one shape [seeds, images], received {right_a.shape}, {right_b.shape}."
            )
        digits = sequential.digits_part(right_b.mean(axis=0) - right_a.mean(axis=0))
        accuracies = right_a.mean(axis=1), right_b.mean(axis=1)
        rows.append(judged(a, b, *accuracies, right_a.shape[1], questions, settings) | {"digits": digits})
    return as_table(rows, COLUMNS)


def judged(
    a: str,
    b: str,
    accuracy_a: np.ndarray,
    accuracy_b: np.ndarray,
    images: int,
    questions: int,
    settings: Statistics,
) -> dict[str, Any]:
    """The row of a pair, but for `digits`, from the test accuracies [seeds] on so many images, paired by place."""
    answer = sequential.answer(
        sequential.POINTS * (accuracy_b - accuracy_a),
        step=sequential.POINTS / images,
        level=settings.alpha / max(questions, 1),
        margin=settings.equivalence_margin,
        design=settings.design,
    )
    return {"a": a, "b": b, **asdict(answer)}


def as_table(rows: list[dict[str, Any]], columns: list[str]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=columns).astype({"seeds_about": "Int64", "seeds_at_most": "Int64"})


def columns(images: str) -> list[Column]:
    """The columns of a table of answers, after those that name what is compared."""
    return [
        text("verdict", "verdict"),
        number("difference, points", "difference", "{:+.3f}"),
        span("interval", "low", "high", "{:+.3f}"),
        number("n", "n"),
        ("seeds to decide it: about (at most)", _seeds),
        number(f"± {images}", "digits", "{:.3f}"),
    ]


def _seeds(row: Row) -> Cell:
    about, most = row["seeds_about"], row["seeds_at_most"]
    if about is None:
        return NOTHING, -1
    return (f"{about:,}" if most is None else f"{about:,} ({most:,})"), float(about)


def promise(questions: int, images: int, settings: Statistics) -> str:
    """What the intervals promise, and how a verdict is read off them."""
    how = (
        "however many seeds were added and whenever one looked"
        if settings.design == "open"
        else "at this one look, for a number of seeds that was fixed before"
    )
    holds = f"The m = {questions} intervals hold together" if questions > 1 else "The interval holds"
    margin = f"±{settings.equivalence_margin:g} points"
    return (
        f"{holds} with {settings.percent} confidence, {how}. A verdict is read off its interval: equivalent if all of "
        f"it lies within {margin}, else better or worse if it leaves out 0. They speak of other seeds on these "
        f"{images:,} test images, and take the differences between seeds to be roughly normal."
    )


def in_words(table: pd.DataFrame) -> str:
    """How many questions are decided, and how: "8 of 22 questions are decided: 7 better, 1 worse."."""
    counts = table["verdict"].value_counts()
    decided = [f"{counts[word]} {word}" for word in ("better", "worse", "equivalent") if word in counts]
    start = f"{len(table) - counts.get('undecided', 0)} of {len(table)} questions are decided"
    return f"{start}: {', '.join(decided)}." if decided else f"{start}."


@styled
def forest(table: pd.DataFrame, labels: Sequence[str], margin: float, then: Sequence[float | None] = ()) -> Figure:
    """The interval of each answer below its label, the margin as a band, and what one seed said in 2020.

    Args:
        table: answers.
        labels: of the rows.
        margin: of equivalence, in points.
        then: differences of 2020, in points; None for a row without one.
    """
    figure, axes = panels(0.33 * len(table) + 0.85)
    ax = axes[0, 0]
    ax.axvspan(-margin, margin, color=GREEN, alpha=0.15, linewidth=0, label=f"not worth having: ±{margin:g} points")
    ax.axvline(0, color=FAINT, linewidth=1)
    _set_scale(ax, table, margin)
    for y, row, label in zip(range(len(table))[::-1], plain_rows(table), labels, strict=True):
        color = COLORS[row["verdict"]]
        if np.isfinite(row["low"]):
            ax.hlines(y, row["low"], row["high"], color=color, linewidth=2.5)
        else:
            ax.axhline(y, color=color, linewidth=1, linestyle=":")
        ax.plot(row["difference"], y, "o", color=color, markersize=5.5, markeredgecolor="white")
        sides = ((0, "left", label), (1, "right", f"{written(row['difference'], '{:+.2f}')} {row['verdict']}"))
        for x, side, words in sides:
            ax.text(x, y + 0.22, words, transform=ax.get_yaxis_transform(), ha=side, va="bottom", fontsize=8)
    seen = [(value, y) for value, y in zip(then, range(len(table))[::-1], strict=False) if value is not None]
    if seen:
        ax.plot(*zip(*seen, strict=True), "D", color=ORANGE, markersize=4, label="2020, one seed", clip_on=False)
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)
    ax.set_ylim(-0.5, len(table) - 0.1)
    ax.set_xlabel("difference of test accuracy, points")
    figure.legend(loc="outside upper left", ncols=2)
    return figure


def _set_scale(ax: Axes, table: pd.DataFrame, margin: float) -> None:
    """A linear axis, or where differences are far larger than the margin one that is logarithmic outside of it."""
    ends = table[["low", "high", "difference"]].to_numpy(float)
    reach = np.abs(ends[np.isfinite(ends)]).max()
    if reach > 30 * margin:
        ax.set_xscale("symlog", linthresh=2 * margin, linscale=0.6)
        powers = [value for value in (0.1, 1, 10, 100) if 2 * margin <= value < 2 * reach]
        ticks = [*(-value for value in powers[::-1]), 0, *powers]
        ax.set_xticks(ticks, [written(tick, "{:+g}") if tick else "0" for tick in ticks])
        ax.xaxis.set_minor_locator(ax.xaxis.get_major_locator())
    finite = ends[np.isfinite(ends)]
    low, high = min(finite.min(), -1.2 * margin), max(finite.max(), 1.2 * margin)
    ax.set_xlim(low * (1.1 if low < 0 else 0.9), high * 1.1)
    ax.grid(axis="x")
