"""The stage `evaluate`: every seed's model of one variant on the test set, or with --all those of every variant."""

import os

from many_seeds.commands import console
from stages.evaluate.stage import evaluate
from stages.study import params


@console.command
def main() -> None:
    parser = console.Parser(prog="python -m stages.evaluate", description=__doc__)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("variant", nargs="?", help="a variant in params.yaml")
    which.add_argument("--all", action="store_true", help="every variant, which imports TensorFlow once")
    arguments = parser.parse_args()
    study = params.load()
    if not arguments.all:
        study.recipe(arguments.variant)  # an unknown variant is an error before TensorFlow is imported
    # One thread: the number of threads decides the last bits of a loss. Set before TensorFlow is imported.
    os.environ |= {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "2"}
    for variant in study.variants if arguments.all else [arguments.variant]:
        evaluate(study, variant)
        if arguments.all:
            print(f"evaluated {variant}", flush=True)


if __name__ == "__main__":
    main()
