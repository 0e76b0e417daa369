"""The stage `train`: every seed of one variant, or with --all every unfinished run of the study."""

import os
import signal

from many_seeds.commands import console
from stages.study import dvc, params
from stages.tracking.publisher import DELAY, Publisher
from stages.train.stage import train


@console.command
def main() -> None:
    parser = console.Parser(prog="python -m stages.train", description=__doc__)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("variant", nargs="?", help="a variant in params.yaml")
    which.add_argument("--all", action="store_true", help="every variant, as one batch, the longest runs first")
    arguments = parser.parse_args()
    if "DVC_STAGE" in os.environ:  # `dvc repro` can't forward the signal if it is killed
        dvc.when_gone(lambda: os.kill(os.getpid(), signal.SIGTERM))
    study = params.load()
    if not arguments.all:
        study.recipe(arguments.variant)
    variants = list(study.variants) if arguments.all else [arguments.variant]
    train(study, variants, on_finish=Publisher(study, DELAY).publish)


if __name__ == "__main__":
    main()
