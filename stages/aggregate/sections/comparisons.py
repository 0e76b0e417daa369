"""The pairs under `comparisons` in params.yaml: is b better than a?"""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from many_seeds.plots import BLUE, FAINT, ORANGE, panels, styled
from many_seeds.results import Results
from stages.aggregate.report.parts import Column, Part, Plot, Table, number, text
from stages.aggregate.runs import Runs, VariantRuns, shared_seeds
from stages.aggregate.sections import results
from stages.study.params import Params


def parts(runs: Runs, study: Params, compared: Results) -> list[Part]:
    if not study.comparisons:
        return []
    compared = compared.of([(pair.a, pair.b) for pair in study.comparisons])
    columns = [text("a", "a"), text("b", "b"), *results.columns(compared)]
    found: list[Part] = [Table("comparisons", "Is b better than a?", "", results.table(compared), columns)]
    for pair in study.comparisons:
        a, b = runs[pair.a], runs[pair.b]
        name, caption = f"pair_{a.variant}_{b.variant}", f"{a.variant} and {b.variant}, seed by seed; dashed: means."
        found.append(Table(name, f"{a.variant} and {b.variant}, seed by seed", "", per_seed(a, b), _columns(a, b)))
        found.append(Plot(name, figure(a, b), caption))
    return found


def per_seed(a: VariantRuns, b: VariantRuns) -> pd.DataFrame:
    """Test accuracy and loss of the two variants, a row for each common seed."""
    n = shared_seeds([a, b])
    table = a.scores[["seed"]].head(n).copy()
    for score in ("accuracy", "loss"):
        for variant in (a, b):
            table[f"{variant.variant}_{score}"] = variant.score(f"test_{score}")[:n]
    return table


def _columns(a: VariantRuns, b: VariantRuns) -> list[Column]:
    return [
        number("seed", "seed"),
        *(number(f"{of.variant} accuracy", f"{of.variant}_accuracy", "{:.2f} %", 100) for of in (a, b)),
        *(number(f"{of.variant} loss", f"{of.variant}_loss", "{:.4f}") for of in (a, b)),
    ]


@styled
def figure(a: VariantRuns, b: VariantRuns) -> Figure:
    """Test accuracy of each common seed, with the means."""
    drawn, axes = panels(2.8)
    ax = axes[0, 0]
    n = shared_seeds([a, b])
    x, shift = np.arange(n), 0.12 if n < 40 else 0
    ax.vlines(x, *(100 * of.accuracy[:n] for of in (a, b)), color=FAINT, linewidth=1, zorder=0)
    for variant, color, side, marker in ((a, ORANGE, -shift, "s"), (b, BLUE, shift, "o")):
        accuracy = 100 * variant.accuracy[:n]
        ax.axhline(accuracy.mean(), color=color, linewidth=1, linestyle="--")
        label = f"{variant.variant}, {accuracy.mean():.2f} %"
        ax.plot(x + side, accuracy, marker, color=color, markersize=5 if n < 40 else 2.5, label=label)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlabel("seed")
    ax.set_ylabel("test accuracy, %")
    ax.grid(axis="y")
    drawn.legend(loc="outside upper left", ncols=2)
    return drawn
