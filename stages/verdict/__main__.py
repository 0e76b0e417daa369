"""Is B better than A, and would it still be with other seeds? A verdict for anybody's runs.

Scores come from a CSV or JSON-lines file with a row for each run (columns variant, seed and a score, whatever their
names), from standard input, or from an MLflow experiment:

  many-seeds verdict scores.csv --baseline small
  many-seeds verdict --mlflow my-experiment --metric accuracy

A verdict says what b is against a: better, worse, equivalent, undecided; or unchanged, if every seed scores the same.

Exit status: 0; 1 where --fail-on says so; 2 for an error.
"""

import argparse
import math
from pathlib import Path

from stages import files, gate, terminal
from stages.errors import StudyError
from stages.verdict import answers, figure, mlflow_source, sources, wording
from stages.verdict.answers import Settings
from stages.verdict.sources import Scores


def _parser() -> argparse.ArgumentParser:
    parser = terminal.Parser(
        prog="many-seeds verdict", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    _add_source(parser.add_argument_group("where the scores are"))
    _add_question(parser.add_argument_group("what is asked"))
    output = parser.add_argument_group("how it is answered")
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
        type=terminal.listed,
        action="extend",
        default=[],
        help="columns, or MLflow's parameters or tags, that tell variants apart (the column variant; in MLflow all "
        "parameters that differ, but for the seed)",
    )
    seeds = group.add_mutually_exclusive_group()
    seeds.add_argument("--seed", metavar="NAME", help=f"the column, parameter or tag of the seeds ({sources.SEED})")
    seeds.add_argument("--unpaired", action="store_true", help="runs share no seeds (only with --design fixed)")
    group.add_argument("--wide", action="store_true", help="each column but the seeds' is a variant")
    group.add_argument(
        "--where",
        metavar="CONDITION",
        action="append",
        default=[],
        help="only the rows with COLUMN=VALUE; in MLflow a filter such as \"params.depth = '3'\"; may be repeated",
    )


def _add_question(group: argparse._ArgumentGroup) -> None:
    which = group.add_mutually_exclusive_group()
    which.add_argument("--baseline", metavar="NAME", help="a, with which every other variant is compared")
    which.add_argument(
        "--pairs",
        metavar="A:B,…",
        action="append",
        default=[],
        help="is B better than A? May be repeated (without this and --baseline: of every two variants, is the one that "
        "comes later better than the one that comes first?)",
    )
    group.add_argument("--lower-is-better", action="store_true", help="as of a loss")
    group.add_argument("--margin", type=_amount, default=0.0, help="a difference inside is not worth having (0)")
    group.add_argument("--step", type=_amount, default=0.0, help="the smallest difference two runs can have (0)")
    group.add_argument("--confidence", type=_share, default=0.95, help="of all intervals together (0.95)")
    group.add_argument(
        "--design",
        choices=("open", "fixed"),
        default="open",
        help="open (as by default): runs may be added after a look; fixed: their number was fixed before any look",
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
    by, seed_column = arguments.by, arguments.seed or sources.SEED
    seed = None if arguments.unpaired else seed_column
    if (arguments.file is None) == (arguments.mlflow is None):
        raise StudyError("name one source: a FILE (- for standard input), or --mlflow EXPERIMENT")
    if arguments.mlflow is not None:
        if arguments.wide:
            raise StudyError("--wide is for files: MLflow's runs are told apart with --by")
        return mlflow_source.scores(arguments.mlflow, arguments.metric, seed, by, arguments.where)
    if arguments.wide:
        if by or arguments.where or arguments.unpaired:
            raise StudyError("--wide takes every column for a variant: it does not go with --by, --where, --unpaired")
        return sources.wide_scores(sources.read_table(arguments.file, [seed_column]), arguments.metric, arguments.seed)
    by = by or [sources.BY]
    chosen = map(sources.column_of, arguments.where)
    table = sources.read_table(arguments.file, [*by, seed_column, *chosen])
    return sources.long_scores(table, arguments.metric, seed, by, arguments.where)


@gate.command
def main() -> None:
    arguments = _parser().parse_args()
    settings = Settings(
        arguments.confidence, arguments.margin, arguments.step, arguments.design, arguments.lower_is_better
    )
    asked = gate.from_arguments(arguments)
    if asked.fail_on and not (arguments.baseline or arguments.pairs):
        raise StudyError("--fail-on judges what b is against a: say which is which, with --baseline or --pairs")
    scores = _scores(arguments)
    pairs = answers.pairs_of(scores, arguments.pairs, arguments.baseline)
    found = answers.answers(scores, pairs, settings)
    reasons = asked.reasons(wording.findings(found))
    notes, says = wording.remarks(scores, found), gate.lines(asked, reasons)
    if arguments.figure:
        figure.write(arguments.figure, scores.metric, found, settings)
    if arguments.json:
        said = wording.as_json(scores.metric, found, notes, settings) | {"gate": gate.as_json(asked, reasons)}
        print(files.json_bytes(said).decode(), end="")
    else:
        form = wording.as_markdown if arguments.markdown else wording.as_text
        print(form(scores.metric, found, notes, says, settings), end="")
    gate.close(reasons, says)


if __name__ == "__main__":
    main()
