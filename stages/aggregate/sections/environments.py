"""The environments of the runs: packages, processors, and certificates for other environments."""

from collections import Counter

import pandas as pd

from stages.aggregate.runs import Runs
from stages.study.params import Params
from stages.study.provenance.environments import PARTS, Environment, Part, canonical, read_certificates, select
from stages.study.provenance.identities import variant_identity
from stages.study.records.results import NOT_RECORDED


def paragraphs(runs: Runs, study: Params) -> list[str]:
    """Sentences about the environments of all runs, their processors, and the certificates that apply."""
    recorded = pd.concat([variant.environments for variant in runs.values()])
    return [_versions(recorded), _processors(recorded), *_certificates(runs, study)]


def _versions(recorded: pd.DataFrame) -> str:
    found = Counter(_packages(Environment.parse(text)) for text in recorded["environment"])
    return f"{_runs(len(recorded))}: {_counted(found, len(recorded))}."


def _packages(environment: Environment) -> str:
    words = [f"{name} {version}" for name, version in environment.versions.items()]
    batched = ["as batched seeds, reproducible in distribution and not to the bit"] if environment.executor else []
    return ", ".join(words + batched) or f"versions {NOT_RECORDED}"


def _processors(recorded: pd.DataFrame) -> str:
    return f"Processor: {_counted(Counter(_words(text) for text in recorded['processor']), len(recorded))}."


def _words(processor: str) -> str:
    return processor.replace("; ", " with ")


def _counted(found: Counter[str], total: int) -> str:
    """Each text with the number of its runs, the most frequent first; one that all runs have, without it."""
    if len(found) == 1:
        return next(iter(found))
    return "; ".join(f"{text} ({count} of {total})" for text, count in found.most_common())


def _runs(count: int) -> str:
    return f"{count:,} run{'' if count == 1 else 's'}"


def _certificates(runs: Runs, study: Params) -> list[str]:
    """A sentence for each group of certificates that say that another environment gives the bits of these runs."""
    found: dict[str, list[str]] = {}
    certificates = read_certificates()
    for part in PARTS:
        for name, variant in runs.items():
            identity = variant_identity(study.recipe(name), study)
            for row in _applicable(identity, part, variant.environments, certificates).itertuples():
                what = "training" if part == "train" else "evaluation"
                changes = Environment.parse(row.same_as).differences(Environment.parse(row.environment), part)
                compared = len(str(row.seeds).split())
                others = f" with {', '.join(changes)}" if changes else ""
                text = (
                    f"{what} gives the same bits{others} ({compared} of {row.of} seeds compared, "
                    f"{row.how}, on {_words(str(row.processor))})"
                )
                found.setdefault(text, []).append(name)
    return [f"Certified: {text}: {', '.join(names)}." for text, names in found.items()]


def _applicable(identity: str, part: Part, recorded: pd.DataFrame, certificates: pd.DataFrame) -> pd.DataFrame:
    """The certificates that lead to an environment of the variant's runs."""
    column = {"train": "environment", "evaluate": "evaluation"}[part]

    def root(text: str) -> str:
        return str(canonical(identity, part, Environment.parse(text), certificates))

    roots = {root(text) for text in recorded[column].unique()}
    own = select(certificates, identity, part)
    holds = [root(text) in roots for text in own["environment"]]
    return own[pd.Series(holds, index=own.index, dtype=bool)]
