"""The migration: checks, then files of version 2, then dvc.lock."""

from collections.abc import Mapping, Sequence

from many_seeds.output.messages import listed
from stages.code.stage import variant_environments
from stages.study import dvc, params
from stages.study.params import Params
from stages.study.provenance.environments import CODE, PARTS, Environment
from tools.migrate import checks
from tools.migrate.origin import Origin, find_origin
from tools.migrate.record import CodeLines, code_lines, locked_repository, record_stages, start_ledger, write_files
from tools.migrate.version_1 import extracted, find_commit


def migrate(revision: str | None) -> str:
    """Write the files of version 2 beside the results of version 1, and record them in dvc.lock.

    Args:
        revision: the last commit with version 1; None for the newest one.

    Returns:
        What was done, what is stale now, and what to do next.

    Raises:
        UserError: the results are not those of that commit, they were stale, or their environments do not follow from
            them. Nothing is changed then.
    """
    study = params.load()
    if is_migrated(study):
        return "already migrated: dvc.lock has the stages of version 2"
    with extracted(find_commit(revision)) as old, locked_repository() as repository:
        checks.check_results(old.commit)
        checks.check_not_stale(study, old)
        stages = {stage.addressing: stage for stage in repository.index.stages}
        changing = [stages[f"{part}@{variant}"] for variant in study.variants for part in PARTS]
        checks.check_workspace(changing)
        checks.check_scoring(old)
        origins = {variant: find_origin(variant, recipe, old) for variant, recipe in study.variants.items()}
        lines, today = code_lines(study, origins), variant_environments(study)
        written = [start_ledger(study), *write_files(origins, lines)]
        record_stages(repository, ([stages["code"]] if lines == today else []) + [stages["ledger"]] + changing)
    return report(old.commit, origins, written, _stale(lines, today))


def is_migrated(study: Params) -> bool:
    """Whether dvc.lock has the stages of every variant in the form of version 2."""
    names = [f"{part}@{variant}" for variant in study.variants for part in PARTS]
    recorded = dvc.recorded()
    return all(CODE.as_posix() in recorded.get(name, {}).get("params", {}) for name in names)


def _stale(lines: CodeLines, today: CodeLines) -> dict[str, list[str]]:
    """Part and differences from today's environment → variants; without variants that do not differ."""
    stale: dict[str, list[str]] = {}
    for part in PARTS:
        for variant, text in lines[part].items():
            differences = Environment.parse(text).differences(Environment.parse(today[part][variant]), part)
            if differences:
                stale.setdefault(f"{part}, {', '.join(differences)}", []).append(variant)
    return stale


def report(
    commit: str, origins: Mapping[str, Origin], written: Sequence[str], stale: Mapping[str, Sequence[str]]
) -> str:
    """What was done, what is stale now, and what to do next.

    Args:
        commit: the last commit with version 1.
        origins: variant → the environments of its results.
        written: the files that were written.
        stale: reason → variants.
    """
    runs = sum(len(origin.rows) for origin in origins.values())
    lines = [
        f"Migrated {runs} runs of {len(origins)} variant(s) from commit {commit[:7]}; nothing was trained.",
        f"Written: {', '.join(written)}",
    ]
    lines += [
        f"Stale, made in another environment than today's: {why}: {listed(names)}" for why, names in stale.items()
    ]
    following = "`dvc repro --allow-missing aggregate`"
    if stale:
        following = "`make certify`, which keeps results that a sample finds the same, `dvc repro --allow-missing`"
    return "\n".join([*lines, f"Next: {following}, then `git add --all` and a commit"])
