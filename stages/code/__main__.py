"""The stage `code`: the environment of each variant in metrics/code.yaml, so that an edit affects only its results."""

from many_seeds.commands import console
from stages.code.stage import variant_environments
from stages.study import files, params
from stages.study.provenance.environments import CODE


@console.command
def main() -> None:
    console.take_no_arguments("stages.code", __doc__)
    files.write_yaml(CODE, variant_environments(params.load()))


if __name__ == "__main__":
    main()
