"""The command many-seeds.

`many-seeds verdict` compares the scores of runs of any training code; `many-seeds run` makes runs until there is a
verdict. Commands on a study of this repository are `make …` and `python -m tools.…`.
"""

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from many_seeds.api import compare_read
from many_seeds.commands import console, gate, run, scores
from many_seeds.commands.console import Parser
from many_seeds.errors import UserError
from many_seeds.output import text
from many_seeds.pairs import check_two_variants, default_pairs, parse_pairs
from many_seeds.results import Pair, Results, Settings

VERDICT = """\
Is B better than A, and would it be with other seeds?

Scores come from a CSV or JSON file with a row for each run (columns variant,
seed and a score; options give other names), from the files of all runs, from
standard input, or from an MLflow experiment:

  many-seeds verdict scores.csv --baseline small
  many-seeds verdict 'runs/{variant}/{seed}/metrics.csv' --at last
  many-seeds verdict --mlflow my-experiment --metric accuracy

The verdict is on b, compared with a: better, worse, equivalent, undecided; or
unchanged, if both have the same score in every seed.

Exit status: 0; 1 if the gate fails (--fail-on); 2 for an error.
"""


@dataclass(frozen=True)
class Judged:
    """The results of `many-seeds verdict`, and what its gate makes of them.

    Attributes:
        results: the results.
        rules: the verdicts that fail.
        reasons: why the gate fails; empty if it passes.
    """

    results: Results
    rules: gate.Gate
    reasons: Sequence[gate.Reason]

    @property
    def lines(self) -> list[str]:
        return gate.lines(self.rules, self.reasons)

    def to_dict(self) -> dict[str, Any]:
        return self.results.to_dict() | {"gate": gate.as_json(self.rules, self.reasons)}


def parser() -> argparse.ArgumentParser:
    """The parser of the command line of many-seeds."""
    whole = Parser(prog="many-seeds", description=(__doc__ or "").partition("\n\n")[2])
    commands = whole.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=Parser)
    verdict = commands.add_parser(
        "verdict",
        help="compare the scores of runs from CSV, JSON lines or MLflow",
        description=VERDICT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verdict.set_defaults(run=_verdict)
    scores.add_arguments(verdict.add_argument_group("scores"))
    _add_comparison(verdict.add_argument_group("comparison"))
    output = verdict.add_argument_group("output")
    form = output.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON, for programs")
    form.add_argument("--markdown", action="store_true", help="print Markdown, for pull requests")
    output.add_argument("--figure", type=Path, metavar="FILE", help="write a figure (PNG, SVG or PDF)")
    gate.add_arguments(output)
    run.add_command(commands)
    return whole


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
    _add_direction(group)
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


def _add_direction(group: argparse._ArgumentGroup) -> None:
    direction = group.add_mutually_exclusive_group()
    direction.add_argument(
        "--lower-is-better", action="store_true", default=None, help="a lower score is better, as for a loss"
    )
    direction.add_argument(
        "--higher-is-better",
        dest="lower_is_better",
        action="store_false",
        help="a higher score is better (default, unless the metric is called a loss, an error or a time)",
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


def _pairs(arguments: argparse.Namespace, names: list[str]) -> list[Pair]:
    check_two_variants(
        names,
        ": name with --by the columns or parameters that distinguish variants, or use --wide if each column is one",
    )
    return parse_pairs(arguments.pairs, names) if arguments.pairs else default_pairs(names, arguments.baseline)


def judged(arguments: argparse.Namespace) -> Judged:
    """Read the scores that the arguments of `many-seeds verdict` name, and compare them.

    Raises:
        UserError: the scores can't be read or compared, or arguments exclude each other.
    """
    settings = Settings(
        margin=arguments.margin,
        resolution=arguments.resolution,
        confidence=gate.confidence_among(arguments.confidence, arguments.among),
        design=arguments.design,
    )
    reading = scores.reading_of(arguments)
    rules = gate.from_arguments(arguments)
    if rules.fail_on and not (arguments.baseline or arguments.pairs):
        raise UserError("--fail-on judges b compared with a: name them with --baseline or --pairs")
    scores.check_one_source(arguments)
    items = scores.read_items_of(arguments, reading)
    found = items.scores if items else scores.read_scores_of(arguments, reading)
    if items and not settings.resolution:
        settings = replace(settings, resolution=items.resolution)
    results = compare_read(found, reading, settings, lambda names: _pairs(arguments, names), items)
    return Judged(results, rules, rules.reasons(gate.findings(results)))


def _verdict(arguments: argparse.Namespace) -> None:
    found = judged(arguments)
    if arguments.figure:
        found.results.plot(arguments.figure)
    show = print if arguments.json or arguments.markdown else console.show
    show(_output(arguments, found), end="")
    gate.close(found.reasons, found.lines)


def _output(arguments: argparse.Namespace, found: Judged) -> str:
    if arguments.json:
        return json.dumps(found.to_dict(), indent=2, allow_nan=False) + "\n"
    return (text.as_markdown if arguments.markdown else text.as_text)(found.results, *found.lines)


@gate.command
def main() -> None:
    arguments = parser().parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
