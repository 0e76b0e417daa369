"""Draw the two figures of README.md, from the committed results, and that of verdicts.md: `python -m docs.figures`."""

import io
import re
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

import many_seeds as ms
from many_seeds.commands import console
from many_seeds.output import plots
from many_seeds.output.forest import forest
from many_seeds.output.plots import BLUE, FAINT, GREEN, INK, panels, styled
from many_seeds.results import Pair, Results
from stages.aggregate.runs import Runs, read_runs
from stages.aggregate.sections.convergence import by_seeds
from stages.study import params
from stages.study.comparisons import compare_variants
from stages.study.records.ledger_files import read_ledger

FOLDER = Path("docs")
ONE: Pair = ("mlp_1_wider", "mlp_2_ten_epochs")
SEVERAL: list[Pair] = [
    ("linear", "elm"),
    ("elm", "mlp_tuned"),
    ("mlp_tuned", "cnn_tuned"),
    ("cnn_tuned", "cnn_2020s"),
    ("mlp_2_ten_epochs", "mlp_3_early_stopping"),
    ("mlp_tuned", "mlp_8_batch_512"),
    ("cnn_5_early_stopping", "cnn_6_schedule"),
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
    ax.axhspan(-margin, margin, color=GREEN, alpha=0.15, linewidth=0)
    ax.axhline(0, color=FAINT, linewidth=1)
    ax.plot(np.arange(1, shared + 1), differences, "x", color=INK, markersize=4, label="difference of a seed")
    ax.fill_between(table["n"], table["low"], table["high"], color=BLUE, alpha=0.25, linewidth=0, label="interval")
    ax.plot(table["n"], table["difference"], color=BLUE, linewidth=1.4, label="mean")
    first = table[table["verdict"] != "undecided"].iloc[0]
    ax.plot(first["n"], first["low"], "o", color=BLUE, markersize=5, markeredgecolor="white")
    ax.annotate(
        f"{int(first['n'])} seeds: the interval excludes 0,\nverdict “{first['verdict']}”",
        (first["n"], first["low"]),
        (first["n"] - 0.4, -0.42),
        ha="right",
        fontsize=7.5,
        arrowprops={"arrowstyle": "-", "color": INK, "linewidth": 0.7},
    )
    ax.text(0.8, -margin - 0.09, "equivalence margin", fontsize=7, color=GREEN)
    ax.set_ylim(-0.6, 1.1)
    ax.set_xlim(0.6, shared + 0.4)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlabel("seeds")
    ax.set_ylabel("test accuracy, 10 − 5 epochs\n(percentage points)")
    figure.legend(loc="outside upper left", ncols=3)
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
    study = params.load()
    runs = read_runs(study, dict.fromkeys(name for pair in [ONE, *SEVERAL] for name in pair))
    compared = compare_variants(runs, [ONE, *SEVERAL], study, read_ledger())
    plots.write(FOLDER / "one_comparison.png", one_comparison(runs, compared))
    plots.write(FOLDER / "several_comparisons.png", forest(compared.of(SEVERAL)))


if __name__ == "__main__":
    main()
