"""The arguments that name the scores of a verdict, and reading them."""

import argparse

from many_seeds.commands.console import names
from many_seeds.errors import UserError
from many_seeds.sources.items import GROUP, ITEM, Items, read_items
from many_seeds.sources.reading import Reading, from_files
from many_seeds.sources.scores import Scores
from many_seeds.sources.shapes import SEED
from many_seeds.sources.text_files import read_table


def add_arguments(group: argparse._ArgumentGroup) -> None:
    """Add the arguments that name the scores."""
    _add_sources(group)
    _add_columns(group)
    _add_rows(group)


def _add_sources(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "files",
        nargs="*",
        metavar="FILE",
        help="CSV or JSON with a row for each run, - for stdin; several files, one for each variant; or the files of "
        "runs by a pattern in quotes: 'runs/{variant}/{seed}/metrics.csv'",
    )
    group.add_argument(
        "--items",
        metavar="FILE",
        help="in place of FILE: a row for each variant, seed and test item (columns item, and group if items are not "
        "independent), with a score or True and False; adds a verdict for new items",
    )
    group.add_argument(
        "--mlflow",
        metavar="NAME",
        action="append",
        default=[],
        help="an experiment of the server or database MLFLOW_TRACKING_URI; may be repeated, then each experiment is a "
        "variant",
    )


def _add_columns(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--metric", metavar="NAME", help="the column or metric of the scores; with --wide, the name of the score"
    )
    group.add_argument(
        "--by",
        metavar="NAME,…",
        type=names,
        action="extend",
        default=[],
        help="columns, or MLflow's parameters or tags, that distinguish variants (default: the column variant; in "
        "MLflow all parameters that differ, except the seed)",
    )
    seeds = group.add_mutually_exclusive_group()
    seeds.add_argument("--seed", metavar="NAME", help=f"the column, parameter or tag of the seeds (default: {SEED})")
    seeds.add_argument(
        "--unpaired",
        action="store_true",
        help="runs have no common seeds: pair them in their order, which must not depend on scores; with "
        "--design fixed, Welch's interval",
    )


def _add_rows(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--wide", action="store_true", help="each column, except that of the seeds, is a variant")
    group.add_argument(
        "--at",
        choices=("last", "best"),
        help="which score counts if a run has one for each step; best is selected by the score, so prefer last",
    )
    group.add_argument(
        "--over",
        metavar="NAME",
        help="average the scores of a run over this column, such as fold; in MLflow over the runs with this parameter "
        'or tag, or over the values of a run, "step"',
    )
    group.add_argument(
        "--where",
        metavar="CONDITION",
        action="append",
        default=[],
        help="only rows with COLUMN=VALUE; in MLflow a filter such as \"params.depth = '3'\"; may be repeated",
    )


def check_one_source(arguments: argparse.Namespace) -> None:
    """Raise a UserError unless the arguments name one source."""
    if sum(map(bool, (arguments.files, arguments.mlflow, arguments.items))) != 1:
        raise UserError("name one source: FILE (- for standard input), --items FILE, or --mlflow EXPERIMENT")


def reading_of(arguments: argparse.Namespace) -> Reading:
    """How the scores are read.

    Raises:
        UserError: options exclude each other.
    """
    return Reading(
        metric=arguments.metric,
        seed=arguments.seed,
        by=tuple(arguments.by),
        where=tuple(arguments.where),
        wide=arguments.wide,
        unpaired=arguments.unpaired,
        at=arguments.at,
        over=arguments.over,
        lower_is_better=arguments.lower_is_better,
    )


def read_items_of(arguments: argparse.Namespace, reading: Reading) -> Items | None:
    """The scores of single items; None for another source.

    Raises:
        UserError: see `items.read_items`.
    """
    if arguments.items is None:
        return None
    if reading.wide or reading.unpaired or reading.at or reading.over:
        raise UserError(
            "--items reads a row for each variant, seed and item: expected no --wide, --unpaired, --at or --over"
        )
    table = read_table(arguments.items, [*reading.text_columns, ITEM, GROUP])
    return read_items(table, reading.metric, reading.seed, reading.columns_of_variants, reading.where)


def read_scores_of(arguments: argparse.Namespace, reading: Reading) -> Scores:
    """The scores of files or of MLflow's experiments.

    Raises:
        UserError: see `reading.from_files` and `mlflow.read_scores`.
    """
    if not arguments.mlflow:
        return from_files(arguments.files, reading)
    if reading.wide:
        raise UserError("--wide is for files: name with --by the parameters or tags that distinguish runs")
    from many_seeds.sources import mlflow  # MLflow takes seconds to import

    seed = None if reading.unpaired else reading.seed or SEED
    return mlflow.read_scores(
        arguments.mlflow,
        reading.metric,
        seed,
        reading.by,
        reading.where,
        at=reading.at,
        over=reading.over,
        lower=reading.lower_is_better,
    )
