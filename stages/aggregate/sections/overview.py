"""All comparisons of the study: a figure, and a table whose rows can be chosen by verdict and by part of the study."""

import math
from collections.abc import Sequence
from itertools import pairwise

from matplotlib.figure import Figure

from many_seeds.output import text as wording
from many_seeds.output.forest import forest
from many_seeds.results import Result, Results
from stages.aggregate import reference_2020
from stages.aggregate.report.parts import CellOf, Column, Plot, Row, Table, number, text
from stages.aggregate.sections import convergence, results
from stages.study.comparisons import listed_comparisons
from stages.study.params import Params, describe_changes, differences
from stages.study.scores import ACCURACY

PAIR, SEEDS = "a → b", "n"  # headers of columns with links
ROWS = 30  # of a figure, which has its axis below them
APPROACHES, LISTED, CHAIN = "approaches", "comparisons", "chain {}"  # that name comparisons


def figures(compared: Sequence[Results], study: Params) -> tuple[list[Plot], list[Plot]]:
    """Forest plots for each score and margin, with the differences that were reported in 2020.

    Returns:
        The first figure of each score and margin, and the figures of the comparisons after the first `ROWS`.
    """
    first: list[Plot] = []
    others: list[Plot] = []
    for group in compared:
        pairs = [(result.a, result.b) for result in _headlines_first(group, study)]
        for start in range(0, len(pairs), ROWS):
            plot = _figure(group.of(pairs[start : start + ROWS]), start, group, compared, study)
            (others if start else first).append(plot)
    return first, others


def _figure(shown: Results, start: int, group: Results, compared: Sequence[Results], study: Params) -> Plot:
    """The figure of the results of a group from index `start` on."""
    question = f"Is b better than a{results.qualifier(group, study)} (a → b)?"
    excerpt = f"Comparisons {start + 1} to {start + len(shown)} of {len(group)}." if len(group) > ROWS else ""
    caption = " ".join(filter(None, [f"{question} {wording.summary(group)}.", results.direction(group), excerpt]))
    earlier = [earlier_difference(result, group, study) for result in shown]
    figure = forest(shown, references=earlier, references_label="2020, one seed")
    name = results.page_name(results.file_name("overview", group, compared, study), start // ROWS)
    numbers = [results.sentence(result, group) for result in shown]
    fold = excerpt.removesuffix(".") if start else ""
    return Plot(name, figure, caption, " ".join(numbers), _tooltips(figure, numbers), fold=fold)


def _tooltips(figure: Figure, sentences: Sequence[str]) -> dict[str, str]:
    """Tooltips of the rows of a forest plot, each of which gets a transparent area for the pointer."""
    for row in range(len(sentences)):
        y = len(sentences) - 1 - row
        figure.axes[0].axhspan(y - 0.45, y + 0.55, alpha=0, linewidth=0, zorder=9, gid=f"row_{row}")
    return {f"row_{row}": sentence for row, sentence in enumerate(sentences)}


def tables(compared: Sequence[Results], study: Params, shown: Sequence[Plot]) -> list[Table]:
    """A table of all comparisons for each score and margin.

    Args:
        compared: the results of all comparisons, for each score and margin.
        study: the content of params.yaml.
        shown: the figures of the report that rows link to.
    """
    return [_table(group, compared, study, {plot.name: plot for plot in shown}) for group in compared]


def _table(group: Results, compared: Sequence[Results], study: Params, plots: dict[str, Plot]) -> Table:
    ordered = _headlines_first(group, study)
    parts = {(result.a, result.b): parts_of(result, group, study) for result in ordered}
    data = results.table(ordered)
    data.insert(2, "named_in", [", ".join(of) for of in parts.values()])
    data["change"] = [_change(result, study) for result in ordered]
    data["difference_2020"] = [earlier_difference(result, group, study) for result in ordered]
    cells = dict(results.columns(ordered))
    columns: list[Column] = [(PAIR, _pair), *_columns(cells, group)]
    if data["difference_2020"].notna().any():
        columns.append(number("2020, one seed", "difference_2020", "{:+.2f}"))
    columns.append(text("change", "change"))
    convergence_name = results.file_name("convergence", group, compared, study)
    pages = [plots[name] for name in convergence.page_names(convergence_name, len(group)) if name in plots]
    plot_of = {panel: plot.name for plot in pages for panel in plot.tooltips}
    score = results.score_name(group)

    def to_convergence(row: Row) -> str:
        panel = convergence.panel_id((row["a"], row["b"]))
        return f"{plot_of[panel]}-{panel}" if panel in plot_of else ""

    def to_seeds(row: Row) -> str:
        name = f"pair_{row['a']}_{row['b']}" + ("" if score == study.statistics.score else f"_{score}")
        return f"figure-{name}" if name in plots else ""

    return Table(
        results.file_name("results", group, compared, study),
        f"Is b better than a{results.qualifier(group, study)}?",
        f"Names link to the interval after each seed, n to the scores by seed. {results.direction(group)}".strip(),
        data,
        columns,
        filters={
            "verdict": lambda row: [row["verdict"]],
            "named in": lambda row: parts[row["a"], row["b"]],
        },
        links={PAIR: to_convergence, SEEDS: to_seeds},
    )


def _pair(row: Row) -> tuple[str, str]:
    pair = f"{row['a']} → {row['b']}"
    return pair, pair


def _columns(cells: dict[str, CellOf], group: Results) -> list[Column]:
    """The columns of results with the difference and the interval in one column, so that a phone shows n."""
    verdict, difference, interval, n, *others = cells.items()

    def both(row: Row) -> tuple[str, float | str]:
        (shown, value), (bounds, _) = difference[1](row), interval[1](row)
        return f"{shown} ({bounds})", value

    unit = f", {group.unit}" if group.unit else ""
    return [("verdict", verdict[1]), (f"{group.metric}: b − a (interval){unit}", both), (SEEDS, n[1]), *others]


def parts_of(result: Result, group: Results, study: Params) -> list[str]:
    """The parts of the study that name a comparison: its approaches, its chains, its list of pairs."""
    identity = frozenset((result.a, result.b)), results.score_name(group)
    found = []
    if identity[1] == study.statistics.score:
        named = {
            APPROACHES: list(study.approaches.values()),
            **{CHAIN.format(name): of for name, of in study.chains.items()},
        }
        found = [name for name, of in named.items() if identity[0] in map(frozenset, pairwise(of))]
    listed = any(named.identity == identity for named in listed_comparisons(study))
    return [*found, *([LISTED] if listed else [])]


def _headlines_first(group: Results, study: Params) -> Results:
    """The results in the order of the report: approaches in their order, listed pairs, steps of chains."""
    approaches = [frozenset(pair) for pair in pairwise(study.approaches.values())]

    def rank(result: Result) -> int:
        parts = parts_of(result, group, study)
        if APPROACHES in parts:
            return approaches.index(frozenset((result.a, result.b)))
        return len(approaches) + (LISTED not in parts)

    return group.of([(result.a, result.b) for result in sorted(group, key=rank)])


def _change(result: Result, study: Params) -> str:
    return describe_changes(differences(study.recipe(result.a), study.recipe(result.b)))


def earlier_difference(result: Result, group: Results, study: Params) -> float | None:
    """The difference in accuracy that was reported in 2020, for the steps that were tried then."""
    if not reference_2020.applies_to(study) or results.score_name(group) != ACCURACY:
        return None
    found = reference_2020.differences().get((result.a, result.b))
    return None if found is None or math.isnan(found) else float(found)
