"""The command many-seeds.

`many-seeds verdict` compares the scores of runs, whatever trained them. Commands on a study of this project are
`make …` and `python -m stages.…`.
"""

import argparse
import json
import math
from pathlib import Path

from many_seeds import comparisons, gate, text
from many_seeds.comparisons import Results, Settings
from many_seeds.console import Parser, names
from many_seeds.errors import UserError
from many_seeds.sources import tables
from many_seeds.sources.scores import Scores

VERDICT = """\
Is B better than A, and would it still be with other seeds?

Scores come from a CSV or JSON-lines file with a row for each run (columns
variant, seed and a score, whatever their names), from standard input, or from
an MLflow experiment:

  many-seeds verdict scores.csv --baseline small
  many-seeds verdict --mlflow my-experiment --metric accuracy

A verdict is about b against a: better, worse, equivalent, undecided; or
unchanged, if every seed scores the same.

Exit status: 0; 1 where --fail-on says so; 2 for an error.
"""


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="many-seeds", description=(__doc__ or "").partition("\n\n")[2])
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=Parser)
    verdict = commands.add_parser(
        "verdict",
        help="compare the scores of runs from CSV, JSON lines or MLflow",
        description=VERDICT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verdict.set_defaults(run=_verdict)
    _add_source(verdict.add_argument_group("scores"))
    _add_comparison(verdict.add_argument_group("comparison"))
    output = verdict.add_argument_group("output")
    form = output.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="for programs")
    form.add_argument("--markdown", action="store_true", help="for pull requests")
    output.add_argument("--figure", type=Path, metavar="FILE", help="draw the intervals as PNG, SVG or PDF")
    gate.add_arguments(output)
    return parser


def _add_source(group: argparse._ArgumentGroup) -> None:
    group.add_argument("file", nargs="?", metavar="FILE", help="CSV or JSON lines, a row for each run; - for stdin")
    group.add_argument("--mlflow", metavar="NAME", help="an experiment of the server or database MLFLOW_TRACKING_URI")
    group.add_argument(
        "--metric", metavar="NAME", help="the column or metric of the scores; with --wide, only what they are called"
    )
    group.add_argument(
        "--by",
        metavar="NAME,…",
        type=names,
        action="extend",
        default=[],
        help="columns, or MLflow's parameters or tags, that distinguish variants (by default the column variant; in "
        "MLflow all parameters that differ, except the seed)",
    )
    seeds = group.add_mutually_exclusive_group()
    seeds.add_argument(
        "--seed", metavar="NAME", help=f"the column, parameter or tag of the seeds (default: {tables.SEED})"
    )
    seeds.add_argument("--unpaired", action="store_true", help="runs share no seeds (only with --design fixed)")
    group.add_argument("--wide", action="store_true", help="each column except the seeds' is a variant")
    group.add_argument(
        "--where",
        metavar="CONDITION",
        action="append",
        default=[],
        help="only the rows with COLUMN=VALUE; in MLflow a filter such as \"params.depth = '3'\"; may be repeated",
    )


def _add_comparison(group: argparse._ArgumentGroup) -> None:
    which = group.add_mutually_exclusive_group()
    which.add_argument("--baseline", metavar="NAME", help="a, with which every other variant is compared")
    which.add_argument(
        "--pairs",
        metavar="A:B,…",
        action="append",
        default=[],
        help="is B better than A? May be repeated (without this and --baseline: every pair, the later variant as B)",
    )
    group.add_argument("--lower-is-better", action="store_true", help="a lower score is better, as for a loss")
    group.add_argument("--margin", type=_amount, default=0.0, help="a difference within it is negligible (default: 0)")
    group.add_argument("--step", type=_amount, default=0.0, help="the smallest difference of two scores (default: 0)")
    group.add_argument(
        "--confidence", type=_share, default=0.95, help="of all intervals simultaneously (default: 0.95)"
    )
    group.add_argument(
        "--design",
        choices=("open", "fixed"),
        default="open",
        help="open (default): runs may be added after a look; fixed: their number was fixed before any look",
    )


def _amount(text: str) -> float:
    value = _float(text)
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(
            f"should be a number of 0 or more, in the unit of the score, received {text!r}"
        )
    return value


def _share(text: str) -> float:
    value = _float(text)
    if not 0 < 1 - value < 1:
        raise argparse.ArgumentTypeError(f"should be a number between 0 and 1, such as 0.95, received {text!r}")
    return value


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan  # which is in no range


def _scores(arguments: argparse.Namespace) -> Scores:
    by, seed_column = arguments.by, arguments.seed or tables.SEED
    seed = None if arguments.unpaired else seed_column
    if (arguments.file is None) == (arguments.mlflow is None):
        raise UserError("name one source: a FILE (- for standard input), or --mlflow EXPERIMENT")
    if arguments.mlflow is not None:
        from many_seeds.sources import mlflow  # which takes seconds to import

        if arguments.wide:
            raise UserError("--wide is for files: name what distinguishes MLflow's runs with --by")
        return mlflow.scores(arguments.mlflow, arguments.metric, seed, by, arguments.where)
    if arguments.wide:
        if by or arguments.where or arguments.unpaired:
            raise UserError("--wide takes every column as a variant: it can't be used with --by, --where, --unpaired")
        return tables.wide_scores(tables.read_table(arguments.file, [seed_column]), arguments.metric, arguments.seed)
    by = by or [tables.BY]
    chosen = map(tables.column_of, arguments.where)
    table = tables.read_table(arguments.file, [*by, seed_column, *chosen])
    return tables.long_scores(table, arguments.metric, seed, by, arguments.where)


def _verdict(arguments: argparse.Namespace) -> None:
    settings = Settings(
        arguments.margin, arguments.step, arguments.confidence, arguments.design, arguments.lower_is_better
    )
    asked = gate.from_arguments(arguments)
    if asked.fail_on and not (arguments.baseline or arguments.pairs):
        raise UserError("--fail-on judges b against a: say which is which, with --baseline or --pairs")
    scores = _scores(arguments)
    pairs = comparisons.choose_pairs(scores, arguments.pairs, arguments.baseline)
    results = comparisons.compare_scores(scores, pairs, settings)
    reasons = asked.reasons(gate.findings(results))
    lines = gate.lines(asked, reasons)
    if arguments.figure:
        results.plot(arguments.figure)
    print(_output(arguments, results, lines, gate.as_json(asked, reasons)), end="")
    gate.close(reasons, lines)


def _output(arguments: argparse.Namespace, results: Results, lines: list[str], judged: dict[str, object]) -> str:
    if arguments.json:
        return json.dumps(results.to_dict() | {"gate": judged}, indent=2, allow_nan=False) + "\n"
    return (text.as_markdown if arguments.markdown else text.as_text)(results, *lines)


@gate.command
def main() -> None:
    arguments = _parser().parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
