"""What changed between two commits, with intervals: `dvc metrics diff` for scores over many seeds.

`python -m tools.compare OLD` compares a commit with the working tree, `python -m tools.compare OLD NEW` two commits.
Everything is read from git or from the working tree; models, data and DVC are not needed.
With --fail-on the command is a gate: exit status 0 if it passes, 1 if it fails, 2 for an error.
"""

import argparse

from many_seeds.commands import console, gate
from stages.study import files
from tools.compare.difference import compare
from tools.compare.findings import findings
from tools.compare.report import as_json, as_markdown, as_text
from tools.compare.side import read_side


def parse_arguments() -> argparse.Namespace:
    parser = console.Parser(
        prog="python -m tools.compare", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("old", metavar="OLD", help="the old side: a commit, branch, tag or DVC experiment")
    parser.add_argument("new", metavar="NEW", nargs="?", help="the new side (default: the working tree)")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON")
    form.add_argument("--markdown", action="store_true", help="print Markdown, for pull requests")
    gate.add_arguments(parser)
    return parser.parse_args()


@gate.command
def main() -> None:
    arguments = parse_arguments()
    rules = gate.from_arguments(arguments)
    difference = compare(read_side(arguments.old), read_side(arguments.new), arguments.among)
    reasons = rules.reasons(findings(difference))
    lines = gate.lines(rules, reasons)
    if arguments.json:
        print(files.json_bytes(as_json(difference) | {"gate": gate.as_json(rules, reasons)}).decode(), end="")
    elif arguments.markdown:
        print(as_markdown(difference, lines), end="")
    else:
        console.show(as_text(difference, lines), end="")
    gate.close(reasons, lines)


if __name__ == "__main__":
    main()
