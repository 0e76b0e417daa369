"""Migrate the results of version 1 to the pipeline of version 2, once, without training or evaluating anything.

In version 1 results depend on folders of code. Version 2 has a stage `code` instead, and records the environment of
each run. Only environments that follow from the results are written: the key of each run has to follow from the code
and the packages of version 1, and the predictions of each variant from its evaluation code.
"""

import argparse

from many_seeds.commands import console
from tools.migrate.run import migrate


@console.command
def main() -> None:
    parser = console.Parser(
        prog="python -m tools.migrate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--from",
        dest="revision",
        metavar="REV",
        help="the last commit of this study with version 1 (default: HEAD, or the newest one with version 1 before it)",
    )
    print(migrate(parser.parse_args().revision))


if __name__ == "__main__":
    main()
