"""The command many-seeds.

`many-seeds verdict` compares the scores of runs of any training code; `many-seeds run` makes runs until there is a
verdict. Commands on a study of this repository are `make …` and `python -m tools.…`.
"""

import argparse
import json
import math
from dataclasses import replace
from pathlib import Path

from many_seeds.commands import gate, run
from many_seeds.commands.console import Parser, names
from many_seeds.comparisons import compare_scores
from many_seeds.errors import UserError
from many_seeds.output import text
from many_seeds.pairs import check_two_variants, default_pairs, parse_pairs
from many_seeds.results import Pair, Results, Settings
from many_seeds.sources.items import GROUP, ITEM, Items, read_items
from many_seeds.sources.scores import Scores
from many_seeds.sources.tables import BY, SEED, column_of, long_scores, wide_scores
from many_seeds.sources.text_files import read_table

VERDICT = """\
Is B better than A, and would it be with other seeds?

Scores come from a CSV or JSON-lines file with a row for each run (columns
variant, seed and a score; options give other names), from standard input, or
from an MLflow experiment:

  many-seeds verdict scores.csv --baseline small
  many-seeds verdict --mlflow my-experiment --metric accuracy

The verdict is on b, compared with a: better, worse, equivalent, undecided; or
unchanged, if both have the same score in every seed.

Exit status: 0; 1 if the gate fails (--fail-on); 2 for an error.
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
    form.add_argument("--json", action="store_true", help="print JSON, for programs")
    form.add_argument("--markdown", action="store_true", help="print Markdown, for pull requests")
    output.add_argument("--figure", type=Path, metavar="FILE", help="write a figure (PNG, SVG or PDF)")
    gate.add_arguments(output)
    run.add_command(commands)
    return parser


def _add_source(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "file", nargs="?", metavar="FILE", help="CSV or JSON lines, with a row for each run; - for stdin"
    )
    group.add_argument(
        "--items",
        metavar="FILE",
        help="in place of FILE: a row for each variant, seed and test item (columns item, and group if items are not "
        "independent), with a score or True and False; adds a verdict for new items",
    )
    group.add_argument("--mlflow", metavar="NAME", help="an experiment of the server or database MLFLOW_TRACKING_URI")
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
    seeds.add_argument("--unpaired", action="store_true", help="runs have no common seeds (only with --design fixed)")
    group.add_argument("--wide", action="store_true", help="each column, except that of the seeds, is a variant")
    group.add_argument(
        "--where",
        metavar="CONDITION",
        action="append",
        default=[],
        help="only rows with COLUMN=VALUE; in MLflow a filter such as \"params.depth = '3'\"; may be repeated",
    )


def _add_comparison(group: argparse._ArgumentGroup) -> None:
    which = group.add_mutually_exclusive_group()
    which.add_argument("--baseline", metavar="NAME", help="a, the variant with which every other is compared")
    which.add_argument(
        "--pairs",
        metavar="A:B,…",
        action="append",
        default=[],
        help="compare B with A; may be repeated (default, without --baseline: every pair, with the later variant as B)",
    )
    group.add_argument("--lower-is-better", action="store_true", help="a lower score is better, as for a loss")
    group.add_argument(
        "--margin",
        type=_amount,
        default=0.0,
        help="equivalence margin, in the unit of the scores: a difference within it is negligible (default: 0)",
    )
    group.add_argument(
        "--resolution",
        type=_amount,
        default=0.0,
        help="the smallest nonzero difference of two scores, such as 1 / test images for an accuracy (default: 0)",
    )
    # The name of --resolution in earlier versions.
    group.add_argument("--step", dest="resolution", type=_amount, default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    group.add_argument(
        "--confidence",
        type=_probability,
        default=0.95,
        help="probability with which all intervals hold simultaneously (default: 0.95)",
    )
    group.add_argument(
        "--design",
        choices=("open", "fixed"),
        default="open",
        help="open (default): anytime-valid, seeds may be added after a look; fixed: their number was fixed before any "
        "score was seen",
    )


def _amount(text: str) -> float:
    value = _float(text)
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(
            f"should be a number of 0 or more, in the unit of the scores, received {text!r}"
        )
    return value


def _probability(text: str) -> float:
    value = _float(text)
    if not 0 < 1 - value < 1:
        raise argparse.ArgumentTypeError(f"should be a number between 0 and 1, such as 0.95, received {text!r}")
    return value


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan  # out of every range


def _check_one_source(arguments: argparse.Namespace) -> None:
    if sum(source is not None for source in (arguments.file, arguments.mlflow, arguments.items)) != 1:
        raise UserError("name one source: a FILE (- for standard input), --items FILE, or --mlflow EXPERIMENT")


def _items(arguments: argparse.Namespace) -> Items | None:
    """The scores of single items; None for another source."""
    if arguments.items is None:
        return None
    if arguments.wide or arguments.unpaired:
        raise UserError("--items reads a row for each variant, seed and item: expected no --wide or --unpaired")
    by = arguments.by or [BY]
    text_columns = [*by, arguments.seed or SEED, ITEM, GROUP, *map(column_of, arguments.where)]
    return read_items(read_table(arguments.items, text_columns), arguments.metric, arguments.seed, by, arguments.where)


def _scores(arguments: argparse.Namespace) -> Scores:
    if arguments.mlflow is not None:
        return _mlflow_scores(arguments)
    return _wide_scores(arguments) if arguments.wide else _long_scores(arguments)


def _mlflow_scores(arguments: argparse.Namespace) -> Scores:
    if arguments.wide:
        raise UserError("--wide is for files: name the parameters or tags that distinguish MLflow's runs with --by")
    from many_seeds.sources import mlflow  # MLflow takes seconds to import

    return mlflow.read_scores(arguments.mlflow, arguments.metric, _seed(arguments), arguments.by, arguments.where)


def _wide_scores(arguments: argparse.Namespace) -> Scores:
    if arguments.by or arguments.where or arguments.unpaired:
        raise UserError("--wide reads every column as a variant: expected no --by, --where or --unpaired")
    table = read_table(arguments.file, [arguments.seed or SEED])
    return wide_scores(table, arguments.metric, arguments.seed)


def _long_scores(arguments: argparse.Namespace) -> Scores:
    by = arguments.by or [BY]
    table = read_table(arguments.file, [*by, arguments.seed or SEED, *map(column_of, arguments.where)])
    return long_scores(table, arguments.metric, _seed(arguments), by, arguments.where)


def _seed(arguments: argparse.Namespace) -> str | None:
    """The column, parameter or tag of the seeds; None for unpaired runs."""
    return None if arguments.unpaired else arguments.seed or SEED


def _pairs(arguments: argparse.Namespace, scores: Scores) -> list[Pair]:
    names = list(scores.variants)
    check_two_variants(
        names,
        ": name with --by the columns or parameters that distinguish variants, or use --wide if each column is one",
    )
    return parse_pairs(arguments.pairs, names) if arguments.pairs else default_pairs(names, arguments.baseline)


def _verdict(arguments: argparse.Namespace) -> None:
    settings = Settings(
        margin=arguments.margin,
        resolution=arguments.resolution,
        confidence=gate.confidence_among(arguments.confidence, arguments.among),
        design=arguments.design,
        lower_is_better=arguments.lower_is_better,
    )
    rules = gate.from_arguments(arguments)
    if rules.fail_on and not (arguments.baseline or arguments.pairs):
        raise UserError("--fail-on judges b compared with a: name them with --baseline or --pairs")
    _check_one_source(arguments)
    items = _items(arguments)
    scores = items.scores if items else _scores(arguments)
    if items and not settings.resolution:
        settings = replace(settings, resolution=items.resolution)
    results = compare_scores(scores, _pairs(arguments, scores), settings, items)
    reasons = rules.reasons(gate.findings(results))
    lines = gate.lines(rules, reasons)
    if arguments.figure:
        results.plot(arguments.figure)
    print(_output(arguments, results, lines, gate.as_json(rules, reasons)), end="")
    gate.close(reasons, lines)


def _output(arguments: argparse.Namespace, results: Results, lines: list[str], judgement: dict[str, object]) -> str:
    if arguments.json:
        return json.dumps(results.to_dict() | {"gate": judgement}, indent=2, allow_nan=False) + "\n"
    return (text.as_markdown if arguments.markdown else text.as_text)(results, *lines)


@gate.command
def main() -> None:
    arguments = _parser().parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
