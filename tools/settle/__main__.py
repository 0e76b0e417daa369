"""Add seeds until every comparison has a verdict and every race has ended, or the time is used up.

Seeds are added to the variants of undecided comparisons and to those in a race only, a quarter more each time, and all
are evaluated after each batch: the intervals are valid at any number of seeds (docs/statistics.md). The comparison or
race with the least projected training time is first. If the command is stopped, run it again: finished runs are kept.
"""

import argparse
import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from many_seeds.commands import console
from many_seeds.errors import UserError
from many_seeds.growth import MOST
from stages.study import dvc
from stages.study.params import PARAMS
from tools.settle.loop import settle
from tools.settle.plan import plan
from tools.settle.study import GrowingStudy

LOCK = Path("build/settle.lock")
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


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Exclude other processes that would add seeds to this study: each would delete runs that only the other knows.

    Raises:
        UserError: there is one.
    """
    LOCK.parent.mkdir(exist_ok=True)
    with LOCK.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                "another `make settle` is adding seeds to this study: wait until it ends, or end it. Its finished runs "
                "are kept"
            ) from error
        yield


@console.command
def main() -> None:
    arguments = parse_arguments()
    growing = GrowingStudy(arguments.pairs, arguments.most)
    if arguments.plan:
        console.show(plan(growing))
        return
    with alone():
        growing.check_environment()
        for objection in growing.left_out.values():
            print(f"left out: {objection}", flush=True)
        dvc.command()  # fails now, rather than after hours of training, if DVC is not installed
        os.environ |= ENVIRONMENT
        growing.update_data()
        settle(growing, arguments.hours)


if __name__ == "__main__":
    main()
