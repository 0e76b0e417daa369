"""The convergence of the intervals as seeds are added, and where each comparison got its verdict."""

import math
from collections.abc import Sequence
from dataclasses import asdict

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from many_seeds.output.plots import COLORS, FAINT, FONT_SIZE, band, margin_band, panels, styled
from many_seeds.results import Pair, Result, Results
from stages.aggregate.report.parts import Part, Plot
from stages.aggregate.runs import Runs
from stages.aggregate.sections import results
from stages.study.comparisons import results_by_seeds
from stages.study.params import Params
from stages.study.scores import SCORES

FEWEST = 3  # points of a curve that is drawn
# Panels side by side, and the width of the figure in inches: in the PNG file, 1,232 pixels, which fit a laptop.
COLUMNS, WIDTH = 4, 7.7
PANELS = 40  # of a figure
LONGEST_NAME = 21
CAPTION = (
    "The interval of each comparison after its first n seeds{qualifier}; the equivalence margin is green. The dot "
    "marks the first number of seeds with a verdict."
)


def parts(runs: Runs, compared: Sequence[Results], study: Params) -> list[Part]:
    if study.statistics.design == "fixed":  # its intervals hold for one number of seeds
        return []
    found = []
    for group in compared:
        tables = {(result.a, result.b): by_seeds(result, runs, group) for result in group}
        drawn = {pair: table for pair, table in tables.items() if len(table) >= FEWEST}
        caption = CAPTION.format(qualifier=results.qualifier(group, study))
        names = page_names(results.file_name("convergence", group, compared, study), len(drawn))
        for page, name in enumerate(names):
            tables_of_page = dict(list(drawn.items())[page * PANELS : (page + 1) * PANELS])
            tooltips = {panel_id(pair): _sentence(pair, table) for pair, table in tables_of_page.items()}
            drawing = figure(tables_of_page, group)
            found.append(Plot(name, drawing, caption, " ".join(tooltips.values()), tooltips, wide=True))
    return [*found]


def page_names(name: str, comparisons: int) -> list[str]:
    """The names of the figures that so many comparisons need."""
    return [results.page_name(name, page) for page in range(math.ceil(comparisons / PANELS))]


def by_seeds(result: Result, runs: Runs, group: Results) -> pd.DataFrame:
    """n, difference, low, high and verdict after the first n seeds, for every n with a finite interval."""
    score = SCORES[results.score_name(group)]
    by_n = results_by_seeds(result, runs, score, group.settings)
    found = [asdict(first) for first in by_n if math.isfinite(first.low)]
    return pd.DataFrame(found, columns=["n", "difference", "low", "high", "verdict"])


def panel_id(pair: Pair) -> str:
    """The id of the panel of a comparison."""
    return f"{pair[0]}--{pair[1]}"


def _sentence(pair: Pair, table: pd.DataFrame) -> str:
    """A panel in words: its last interval, and the first number of seeds with a verdict."""
    last, with_verdict = table.iloc[-1], table[table["verdict"] != "undecided"]
    verdict = "no verdict"
    if not with_verdict.empty:
        verdict = f"{with_verdict['verdict'].iloc[0]} from n = {with_verdict['n'].iloc[0]} on"
    interval = f"{last['difference']:+.3g} ({last['low']:+.3g} … {last['high']:+.3g})".replace("-", "−")
    return f"{pair[0]} → {pair[1]}: {interval} after n = {last['n']}, {verdict}."


@styled
def figure(tables: dict[Pair, pd.DataFrame], group: Results) -> Figure:
    """A panel for each comparison: its interval by the number of seeds."""
    rows = -(-len(tables) // COLUMNS)
    drawn, axes = panels(1.05 * rows + 0.3, COLUMNS, rows, width=WIDTH)
    for ax, (pair, table) in zip(axes.flat, tables.items(), strict=False):
        _panel(ax, pair, table, group.settings.margin)
    for ax in axes.flat[len(tables) :]:
        ax.set_axis_off()
    drawn.supxlabel("seeds", fontsize=FONT_SIZE)
    notes = "; ".join(filter(None, [group.unit, "lower is better" if group.settings.lower_is_better else ""]))
    drawn.supylabel(f"difference in {group.metric}{f' ({notes})' if notes else ''}", fontsize=FONT_SIZE)
    return drawn


def _panel(ax: Axes, pair: Pair, table: pd.DataFrame, margin: float) -> None:
    color = COLORS[table["verdict"].iloc[-1]]
    ax.set_gid(panel_id(pair))
    margin_band(ax, margin)
    ax.axhline(0, color=FAINT, linewidth=1)
    band(ax, table["n"], table["low"], table["high"], color)
    ax.plot(table["n"], table["difference"], color=color, linewidth=1.2)
    with_verdict = table[table["verdict"] != "undecided"]
    if not with_verdict.empty:
        first = with_verdict.iloc[0]
        ax.plot(first["n"], first["difference"], "o", color=color, markersize=4.5, markeredgecolor="white")
    # The first intervals are so wide that the others would look like a line.
    last = table.iloc[-1]
    reach = max(3 * (last["high"] - last["low"]), 2 * margin)
    ax.set_ylim(last["difference"] - reach / 2, last["difference"] + reach / 2)
    a, b = (name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…" for name in pair)
    ax.set_title(f"{a} →\n{b}")
    ax.xaxis.set_major_locator(MaxNLocator(3, integer=True))
    ax.yaxis.set_major_locator(MaxNLocator(3))
