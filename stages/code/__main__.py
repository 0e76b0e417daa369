"""Code stage: which environment makes each variant's results, so that only what decides them makes them stale."""

from many_seeds import console
from stages.study import environments, files, params
from stages.study.environments import CODE, PARTS, Part, canonical, current
from stages.study.params import Params


def wanted(study: Params) -> dict[Part, dict[str, str]]:
    """Of each variant, the environment of today's code and the locked packages, or the one that it is certified as.

    Returns:
        "train" and "evaluate" → variant → the environment, as text.
    """
    versions, certificates = environments.locked_versions(), environments.read_certificates()
    return {
        part: {
            variant: str(canonical(variant, part, current(part, recipe.family, versions), certificates))
            for variant, recipe in study.variants.items()
        }
        for part in PARTS
    }


@console.command
def main() -> None:
    console.take_no_arguments("stages.code", __doc__)
    files.write_yaml(CODE, wanted(params.load()))


if __name__ == "__main__":
    main()
