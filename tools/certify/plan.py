"""The plan of `--plan`: which runs would be trained, and for how long."""

from collections.abc import Iterator, Sequence

from stages.study import paths
from stages.study.params import Params
from stages.study.records.models import read_facts
from tools.certify.check import made_on, not_checkable, same_kind
from tools.certify.retrained import RetrainedRuns
from tools.certify.sample import Check


def plan(study: Params, checks: Sequence[Check]) -> str:
    """The runs that would be trained, and about how long it takes.

    Raises:
        UserError: the data are missing.
    """
    retrained = RetrainedRuns(study, [check.variant for check in checks])
    return "\n".join([*(_line(check, retrained) for check in checks), *_on_other_processors(checks, retrained)])


def _line(check: Check, retrained: RetrainedRuns) -> str:
    if objection := not_checkable(check, retrained):
        return f"{check.variant}: can't be checked: {objection}"
    return f"{check.variant} ({' and '.join(check.parts)}): {_runs(check, retrained)}; {'; '.join(_changes(check))}"


def _on_other_processors(checks: Sequence[Check], retrained: RetrainedRuns) -> Iterator[str]:
    """Which results were made on another kind of processor, where equal code may make other bits."""
    made: dict[str, list[str]] = {}
    for check in checks:
        foreign = [seed for seed in check.seeds if not same_kind(check, seed)]
        if foreign and not not_checkable(check, retrained):
            made.setdefault(made_on(check, foreign[0]), []).append(check.variant)
    for place, variants in made.items():
        yield f"{', '.join(variants)}: {place}"
    if made:
        yield (
            "If bits of these differ, the old code trains the seed on this machine too, up to a minute more "
            f"for each variant and, if packages differ, installs the old ones in {retrained.folder} (about 2 GB)."
        )


def _runs(check: Check, retrained: RetrainedRuns) -> str:
    missing = ", ".join(str(run.seed) for run in retrained.missing([check]))
    if not missing:
        return "trained already"
    return f"seed {missing} of {len(check.rows)}, {_duration(check, retrained)}"


def _duration(check: Check, retrained: RetrainedRuns) -> str:
    """The mean duration of the runs of the study, or the size of the computation if there are no runs here."""
    folders = [paths.run_path(check.variant, seed) for seed in range(check.recipe.seeds)]
    seconds = [read_facts(folder)["seconds"] for folder in folders if (folder / "run.json").exists()]
    if seconds:
        return f"about {sum(seconds) / len(seconds):.0f} s each"
    return f"about {check.recipe.cost(retrained.images.shape):.1e} multiplications each"


def _changes(check: Check) -> list[str]:
    return [
        f"{part}: {', '.join(check.roots[part].differences(check.here[part], part)) or 'nothing has changed'}"
        for part in check.parts
    ]
