"""The stage `evaluate`: every seed's model of one variant on the test set."""

import argparse
import os

from many_seeds.commands import console
from stages.evaluate.stage import evaluate
from stages.study import params


@console.command
def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m stages.evaluate", description=__doc__)
    parser.add_argument("variant", help="a variant in params.yaml")
    variant = parser.parse_args().variant
    study = params.load()
    study.recipe(variant)  # an unknown variant is an error before TensorFlow is imported
    # One thread: the number of threads decides the last bits of a loss. Set before TensorFlow is imported.
    os.environ |= {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "2"}
    evaluate(study, variant)


if __name__ == "__main__":
    main()
