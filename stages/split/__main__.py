"""The stage `split`: raw files as arrays of training and test images, and the validation split of every seed."""

from many_seeds.commands import console
from stages.split.stage import split
from stages.study import params


@console.command
def main() -> None:
    console.take_no_arguments("stages.split", __doc__)
    study = params.load()
    split(study.split.dev_fraction, study.split.seeds)


if __name__ == "__main__":
    main()
