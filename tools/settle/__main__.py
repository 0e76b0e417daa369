"""Add seeds until every comparison has a verdict and every race has ended, or the time is used up.

Seeds are added to the variants of undecided comparisons and to those in a race only, a quarter more each time, and all
are evaluated after each batch: the intervals are valid at any number of seeds (docs/statistics.md). The comparison or
race with the least projected training time is first. If the command is stopped, run it again: finished runs are kept.
"""

import argparse
import os

from many_seeds.commands import console
from many_seeds.growth import MOST
from stages.study import dvc
from stages.study.params import PARAMS
from tools.alone import alone
from tools.settle.loop import settle
from tools.settle.plan import plan
from tools.settle.study import GrowingStudy

# One thread for evaluation, set before TensorFlow is imported. Evaluated runs count as finished without their models.
ENVIRONMENT = {
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
    "TF_CPP_MIN_LOG_LEVEL": "2",
    "STUDY_REUSE": "1",
}


def hours(text: str) -> float:
    """Parse --hours.

    Raises:
        argparse.ArgumentTypeError: it is not more than 0.
    """
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"should be more than 0, received {text}")
    return value


def parse_arguments() -> argparse.Namespace:
    parser = console.Parser(prog="python -m tools.settle", description=__doc__)
    parser.add_argument("--pairs", metavar="A:B,RACE,…", help=f"comparisons and races of {PARAMS} (default: all)")
    parser.add_argument(
        "--most",
        type=int,
        default=MOST,
        metavar="SEEDS",
        help="maximum number of seeds of a variant (default: %(default)s), at most split.seeds",
    )
    parser.add_argument(
        "--hours",
        type=hours,
        default=float("inf"),
        help="time budget: a batch of seeds starts only if it is expected to end in time; the first batch of a variant "
        "starts if the duration of its runs is unknown",
    )
    parser.add_argument("--plan", action="store_true", help="print what would be trained, and train nothing")
    arguments = parser.parse_args()
    if arguments.most < 1:
        parser.error(f"--most should be at least 1, received {arguments.most}")
    if arguments.plan and arguments.hours < float("inf"):
        parser.error("--plan lists all runs until every verdict: leave out --hours")
    return arguments


@console.command
def main() -> None:
    arguments = parse_arguments()
    if arguments.plan:
        console.show(plan(GrowingStudy(arguments.pairs, arguments.most)))
        return
    with alone("settle"):
        growing = GrowingStudy(arguments.pairs, arguments.most)
        growing.check_environment()
        for objection in growing.left_out.values():
            print(f"left out: {objection}", flush=True)
        dvc.command()  # fails now, rather than after hours of training, if DVC is not installed
        os.environ |= ENVIRONMENT
        growing.update_data()
        settle(growing, arguments.hours)


if __name__ == "__main__":
    main()
