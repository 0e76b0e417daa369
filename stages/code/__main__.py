"""Code stage: write the environment of each variant, so that a change makes stale only the results that it decides."""

from many_seeds import console
from stages.code.stage import variant_environments
from stages.study import files, params
from stages.study.environments import CODE


@console.command
def main() -> None:
    console.take_no_arguments("stages.code", __doc__)
    files.write_yaml(CODE, variant_environments(params.load()))


if __name__ == "__main__":
    main()
