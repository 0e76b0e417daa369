"""Check, by a sample, whether today's code and packages give the same bits as those that made the results.

`python -m tools.certify` trains one seed of each variant again, in build/certify, if its results were made with other
code or packages. It compares learning curve, scores, calibration, labels and model with the recorded ones, to the bit.
If all are the same, metrics/certified.csv gets a row, and the change makes nothing stale. Otherwise the variant stays
stale, and the first difference is printed. If the command is stopped, run it again: finished runs are kept.
"""

import argparse
import os
import sys

from many_seeds.commands import console
from stages.study import params
from tools.alone import alone
from tools.certify.plan import plan
from tools.certify.report import advice, report
from tools.certify.run import certify
from tools.certify.sample import select_checks

# The executor whose environment the stage `code` writes. One thread, since the number of threads decides the last bits
# of a loss; set before TensorFlow is imported.
ENVIRONMENT = {
    "STUDY_EXECUTOR": "processes",
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
    "TF_CPP_MIN_LOG_LEVEL": "2",
}


def number_of_seeds(text: str) -> int | None:
    """Parse --seeds: a number from 1, or None for all.

    Raises:
        argparse.ArgumentTypeError: it is neither.
    """
    if text == "all":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 or all, received {text!r}")
    return int(text)


def parse_arguments() -> argparse.Namespace:
    parser = console.Parser(
        prog="python -m tools.certify", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("variants", nargs="*", help="variants of params.yaml (default: all)")
    parser.add_argument(
        "--seeds",
        type=number_of_seeds,
        default=1,
        metavar="K",
        help="number of seeds for each variant and recorded environment, or all (default: %(default)s)",
    )
    parser.add_argument("--all", action="store_true", help="check also variants that are not stale, to find errors")
    parser.add_argument("--plan", action="store_true", help="print what would be trained, and train nothing")
    return parser.parse_args()


@console.command
def main() -> None:
    arguments = parse_arguments()
    os.environ |= ENVIRONMENT
    study = params.load()
    checks = select_checks(study, arguments.variants or list(study.variants), arguments.seeds, everything=arguments.all)
    if not checks:
        print("Nothing to certify: the results were made with this code and these packages, or with certified ones.")
    elif arguments.plan:
        console.show(plan(study, checks))
    else:
        with alone("certify"):
            results = certify(study, checks)
        console.show("\n".join([report(results), *advice(results)]))
        if any(result.different is not None for result in results):
            sys.exit(1)


if __name__ == "__main__":
    main()
