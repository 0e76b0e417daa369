"""Draw the figures of README.md and of the pages in docs/ from committed results: `python -m docs.figures`."""

import io
import re
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

import many_seeds as ms
from many_seeds.commands import console
from many_seeds.output import plots
from many_seeds.output.forest import forest
from many_seeds.output.plots import BLUE, COLORS, FAINT, GREY, INK, ORANGE, band, margin_band, panels, styled
from many_seeds.output.text import number, number_forms
from many_seeds.results import Pair, Results
from stages.aggregate.runs import Runs, read_runs
from stages.aggregate.sections.convergence import by_seeds
from stages.study import params
from stages.study.comparisons import compare_variants
from stages.study.records.ledger_files import read_ledger

FOLDER = Path("docs")
COVERAGE = Path("benchmarks/COVERAGE.md")
CANDIDATES, CHOSEN = Path("benchmarks/candidates/earlier.csv"), "mild_dropout_long"
VALIDATION_IMAGES = 12_000
ONE: Pair = ("mlp_1_wider", "mlp_2_ten_epochs")
SEVERAL: list[Pair] = [
    ("linear", "elm"),
    ("elm", "mlp_tuned"),
    ("mlp_tuned", "cnn_tuned"),
    ("cnn_tuned", "cnn_2020s"),
    ("mlp_6_batch_128", "mlp_tuned"),
    ("mlp_tuned", "mlp_8_batch_512"),
    ("cnn_tuned", "cnn_8_one_cycle"),
]


@styled
def one_comparison(runs: Runs, compared: Results) -> Figure:
    """The differences of one comparison, and its interval after each seed, with the parts named."""
    a, b = ONE
    table, margin = by_seeds(compared[ONE], runs, compared), compared.settings.margin
    shared = min(len(runs[a].seeds), len(runs[b].seeds))
    differences = 100 * (runs[b].accuracy[:shared] - runs[a].accuracy[:shared])
    figure, axes = panels(2.6)
    ax = axes[0, 0]
    margin_band(ax, margin)
    ax.axhline(0, color=FAINT, linewidth=1)
    ax.plot(np.arange(1, shared + 1), differences, "x", color=INK, markersize=4, label="difference of a seed")
    band(ax, table["n"], table["low"], table["high"], BLUE, label="interval")
    ax.plot(table["n"], table["difference"], color=BLUE, linewidth=1.4, label="mean")
    first = table[table["verdict"] != "undecided"].iloc[0]
    ax.plot(first["n"], first["low"], "o", color=BLUE, markersize=5, markeredgecolor="white")
    ax.annotate(
        f"{int(first['n'])} seeds: the interval\nexcludes 0: “{first['verdict']}”",
        (first["n"], first["low"]),
        (shared + 0.2, -0.42),
        ha="right",
        arrowprops={"arrowstyle": "-", "color": INK, "linewidth": 0.7},
    )
    ax.text(0.8, -margin - 0.12, "equivalence margin", color=INK)
    ax.set_ylim(-0.6, 1.1)
    ax.set_xlim(0.6, shared + 0.4)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlabel("seeds")
    ax.set_ylabel("test accuracy, 10 − 5 epochs\n(percentage points)")
    figure.legend(loc="outside upper left", ncols=3)
    return figure


@styled
def several_comparisons(compared: Results) -> Figure:
    """A row for each comparison: its name, its intervals for these and for new test images, its verdict, and n."""
    margin, rows = compared.settings.margin, range(len(compared))[::-1]
    figure, axes = panels(0.36 * len(compared) + 1.7, width=7.0)
    ax = axes[0, 0]
    margin_band(ax, margin, vertical=True, label=f"equivalence margin: ±{margin:g}")
    ax.axvline(0, color=FAINT, linewidth=1)
    for y, result in zip(rows, compared, strict=True):
        color = COLORS[result.verdict]
        ax.hlines(y, result.low_new_images, result.high_new_images, color=color, linewidth=1)
        ax.hlines(y, result.low, result.high, color=color, linewidth=3)
        ax.plot(result.difference, y, "o", color=color, markersize=6, markeredgecolor="white")
    ax.set_yticks(rows, [f"{result.a} → {result.b}" for result in compared])
    results = zip(compared, number_forms(compared), strict=True)
    right = ax.secondary_yaxis("right")
    right.set_yticks(rows, [f"{number(one.difference, form)} {one.verdict}, n = {one.n}" for one, form in results])
    right.tick_params(length=0)
    right.spines["right"].set_visible(False)
    ax.grid(axis="x")
    ax.set_ylim(-0.6, len(compared) - 0.4)
    ax.set_xscale("symlog", linthresh=2 * margin, linscale=0.6)
    ticks = (-0.1, 0, 0.1, 1)
    ax.set_xticks(ticks, [number(tick, "{:+g}") if tick else "0" for tick in ticks])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlabel(
        "test accuracy of b minus that of a, percentage points\nright of 0: b is better (symmetric log scale)"
    )
    ax.plot([], [], color=INK, linewidth=3, label="these test images")
    ax.plot([], [], color=INK, linewidth=1, label="new test images too")
    figure.legend(loc="outside lower center", ncols=3)
    figure.suptitle("Is b better than a (a → b)? Mean differences over n seeds, and their intervals", fontsize=10)
    return figure


def several_comparisons_on_a_phone(compared: Results) -> Figure:
    """The same in a narrow figure, with the names above the intervals."""
    return forest(compared, notes=[f"{result.verdict}, n = {result.n}" for result in compared])


@styled
def many_looks() -> Figure:
    """The share of simulated studies with a wrong verdict: these intervals, and t-tests, with a look at every seed."""
    page = COVERAGE.read_text(encoding="utf-8")
    found = re.findall(
        r"^\| null: no pair differs \| (\d+) \| every seed \| ([\d.]+) % \|.*\| \*\*([\d.]+) %\*\* \| \d+ \|$",
        page,
        re.MULTILINE,
    )
    pairs, ours, tests = zip(*found, strict=True)
    figure, axes = panels(2.6)
    ax, x = axes[0, 0], np.arange(len(pairs))
    for shift, shares, color, above, label in (
        (-0.2, ours, BLUE, 9, "anytime-valid intervals"),  # above the line of 5 %
        (0.2, tests, ORANGE, 2, "a t-test at each look"),
    ):
        bars = ax.bar(x + shift, [float(share) for share in shares], 0.36, color=color, label=label)
        ax.bar_label(bars, [f"{share} %" for share in shares], padding=above)
    ax.axhline(5, color=INK, linewidth=0.8, linestyle="--", label="guarantee: 5 %")
    ax.set_xticks(x, [f"{count} comparisons" for count in pairs])
    ax.set_ylabel("studies with a wrong verdict")
    ax.yaxis.set_major_formatter("{x:g} %")
    figure.legend(loc="outside upper left", ncols=2)
    return figure


@styled
def candidates() -> Figure:
    """The validation accuracy of each candidate for the recipe of cnn_2020s, ± its standard error."""
    scores = pd.read_csv(CANDIDATES).groupby("candidate")["dev_accuracy"].mean().sort_values(kind="stable")
    error = np.sqrt(scores * (1 - scores) / VALIDATION_IMAGES)
    figure, axes = panels(0.24 * len(scores) + 0.6)
    ax = axes[0, 0]
    for y, (name, score) in enumerate(scores.items()):
        color = BLUE if name == CHOSEN else GREY
        ax.errorbar(100 * score, y, xerr=100 * error[name], fmt="o", color=color, markersize=5)
        ax.annotate(f"{100 * score:.2f} %", (1, y), xycoords=ax.get_yaxis_transform(), va="center", ha="right")
    ax.set_yticks(range(len(scores)), scores.index)
    ax.set_ylim(-0.7, len(scores) - 0.3)
    ax.set_xlim(98.75, 99.95)
    ax.set_xticks([99, 99.2, 99.4, 99.6])
    ax.grid(axis="x")
    ax.set_xlabel("validation accuracy (%)")
    return figure


def page_example() -> Figure:
    """The figure of the first command of verdicts.md, from the scores on that page."""
    page = (FOLDER / "verdicts.md").read_text(encoding="utf-8")
    block = re.search(r"^```csv scores.csv\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    scores = pd.read_csv(io.StringIO(block[1] if block else ""))
    pairs = [("reference", "tuned"), ("tuned", "batch_512")]
    return forest(ms.compare(scores, pairs, wide=True, metric="accuracy", margin=0.05, resolution=0.01))


@console.command
def main() -> None:
    console.take_no_arguments("docs.figures", __doc__)
    mpl.use("agg")
    plots.write(FOLDER / "verdicts.png", page_example())
    plots.write(FOLDER / "many_looks.png", many_looks())
    plots.write(FOLDER / "candidates.png", candidates())
    study = params.load()
    runs = read_runs(study, dict.fromkeys(name for pair in [ONE, *SEVERAL] for name in pair))
    compared = compare_variants(runs, [ONE, *SEVERAL], study, read_ledger())
    plots.write(FOLDER / "one_comparison.png", one_comparison(runs, compared))
    several = compared.of(SEVERAL)
    plots.write(FOLDER / "several_comparisons.png", several_comparisons(several))
    plots.write(FOLDER / "several_comparisons_phone.png", several_comparisons_on_a_phone(several))


if __name__ == "__main__":
    main()
