"""The environment of each variant's results: today's code and the locked packages, resolved by certificates."""

from stages.study.params import Params
from stages.study.provenance import environments
from stages.study.provenance.environments import PARTS, Part, canonical, current
from stages.study.provenance.identities import variant_identity


def variant_environments(study: Params) -> dict[Part, dict[str, str]]:
    """The environment of each variant with today's code and the locked packages.

    An environment that is certified to give the same bits as an earlier one is replaced by the earlier one.

    Args:
        study: the parameters of the study.

    Returns:
        "train" and "evaluate" → variant → the environment as text, as in metrics/code.yaml.

    Raises:
        UserError: requirements.lock or metrics/certified.csv is missing or damaged.
    """
    identities = {variant: variant_identity(recipe, study) for variant, recipe in study.variants.items()}
    versions, certificates = environments.locked_versions(), environments.read_certificates()
    families = {recipe.family for recipe in study.variants.values()}
    here = {(part, family): current(part, family, versions) for part in PARTS for family in families}
    return {
        part: {
            variant: str(canonical(identities[variant], part, here[part, recipe.family], certificates))
            for variant, recipe in study.variants.items()
        }
        for part in PARTS
    }
