"""The stage `ledger`: each comparison is entered when it is first named, with a level that never changes.

A comparison that is removed from params.yaml keeps its row and its share of the error. A comparison that is added later
gets a smaller level than the first ones.
"""

import argparse

from many_seeds.commands import console
from stages.ledger.stage import start_new, update
from stages.study import params


@console.command
def main() -> None:
    parser = console.Parser(
        prog="python -m stages.ledger", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--new",
        action="store_true",
        help="start a new ledger, which another confidence or design needs; the present one is kept as "
        "metrics/comparisons_1.csv, or with the next free number, and the report names it. Each ledger has its own "
        "confidence: that of two together is smaller",
    )
    act = start_new if parser.parse_args().new else update
    act(params.load())


if __name__ == "__main__":
    main()
