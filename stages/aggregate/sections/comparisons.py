"""The pairs under `comparisons` in params.yaml: is b better than a?"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from many_seeds.output.plots import BLUE, FAINT, INK, ORANGE, panels, styled
from many_seeds.results import Results
from stages.aggregate.report.parts import Column, Part, Plot, Table, number, text
from stages.aggregate.runs import Runs, VariantRuns, shared_seeds
from stages.aggregate.sections import results
from stages.study.comparisons import listed_comparisons
from stages.study.params import Params
from stages.study.scores import ACCURACY, SCORES

LOSS = "log_loss"  # its values are in the column loss


def parts(runs: Runs, study: Params, compared: Sequence[Results]) -> list[Part]:
    found: list[Part] = []
    listed = {named.identity: named for named in listed_comparisons(study)}
    for group in compared:
        score = results.score_name(group)
        pairs = [
            named.pair for named in listed.values() if (named.score, named.margin) == (score, group.settings.margin)
        ]
        if pairs:
            found.append(_table(group.of(pairs), results.file_name("comparisons", group, compared, study), study))
            found += [part for a, b in pairs for part in _by_seed(runs[a], runs[b], score, study)]
    return found


def _table(found: Results, name: str, study: Params) -> Table:
    title = f"Is b better than a{results.qualifier(found, study)}?"
    columns = [text("a", "a"), text("b", "b"), *results.columns(found)]
    return Table(name, title, results.direction(found), results.table(found), columns, on_page=False)


def _by_seed(a: VariantRuns, b: VariantRuns, score: str, study: Params) -> list[Part]:
    """The scores of two variants by seed, as a table and as a figure."""
    name, suffix, by = f"pair_{a.variant}_{b.variant}", "", ""
    if score != study.statistics.score:
        suffix, by = f"_{score}", f", {SCORES[score].label}"
    title = f"{a.variant} and {b.variant}, seed by seed{by}"
    table, columns = per_seed(a, b, score), _columns(a, b, score)
    marks = ""
    if "diverged" in table:
        columns, marks = [*columns, text("diverged", "diverged")], "; crosses: diverged runs"
    means = " and ".join(
        f"{of.variant} {SCORES[score].text(SCORES[score].values(of)[: len(table)].mean())}" for of in (a, b)
    )
    return [
        Table(name + suffix, title, "", table, columns, fold=title),
        Plot(
            name + suffix, figure(a, b, score), f"{title}; dashed: means{marks}.", f"Means: {means}, n = {len(table)}."
        ),
    ]


def per_seed(a: VariantRuns, b: VariantRuns, score: str = ACCURACY) -> pd.DataFrame:
    """Test accuracy and loss of the two variants, and the score if it is another one, a row for each common seed.

    If a run diverged, the column "diverged" names the variants whose run of the seed did.
    """
    n = shared_seeds([a, b])
    table = a.scores[["seed"]].head(n).copy()
    for name in ("accuracy", "loss"):
        for variant in (a, b):
            table[f"{variant.variant}_{name}"] = variant.score(f"test_{name}")[:n]
    if score not in (ACCURACY, LOSS):
        for variant in (a, b):
            table[f"{variant.variant}_{score}"] = SCORES[score].values(variant)[:n]
    diverged = [[of.variant for of in (a, b) if of.diverged[row]] for row in range(n)]
    return table.assign(diverged=[", ".join(names) for names in diverged]) if any(diverged) else table


def _columns(a: VariantRuns, b: VariantRuns, score: str) -> list[Column]:
    columns = [
        number("seed", "seed"),
        *(number(f"{of.variant} accuracy", f"{of.variant}_accuracy", "{:.2f} %", 100) for of in (a, b)),
        *(number(f"{of.variant} loss", f"{of.variant}_loss", "{:.4f}") for of in (a, b)),
    ]
    if score in (ACCURACY, LOSS):
        return columns
    shown = SCORES[score]
    form = "{:.2f} %" if shown.is_share else "{:.4f}"
    return columns + [
        number(f"{of.variant} {shown.label}", f"{of.variant}_{score}", form, shown.scale) for of in (a, b)
    ]


@styled
def figure(a: VariantRuns, b: VariantRuns, score: str = ACCURACY) -> Figure:
    """The score of each common seed, with the means."""
    drawn, axes = panels(2.8)
    ax, of = axes[0, 0], SCORES[score]
    n = shared_seeds([a, b])
    x, shift = np.arange(n), 0.12 if n < 40 else 0
    ax.vlines(x, *(of.scale * of.values(variant)[:n] for variant in (a, b)), color=FAINT, linewidth=1, zorder=0)
    for variant, color, side, marker in ((a, ORANGE, -shift, "s"), (b, BLUE, shift, "o")):
        values = of.scale * of.values(variant)[:n]
        ax.axhline(values.mean(), color=color, linewidth=1, linestyle="--")
        label = f"{variant.variant}, {of.text(of.values(variant)[:n].mean())}"
        ax.plot(x + side, values, marker, color=color, markersize=5 if n < 40 else 2.5, label=label)
        diverged = variant.diverged[:n]
        ax.plot((x + side)[diverged], values[diverged], "x", color=INK, markersize=8)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlabel("seed")
    ax.set_ylabel(of.value_label)
    ax.grid(axis="y")
    drawn.legend(loc="outside upper left", ncols=2)
    return drawn
