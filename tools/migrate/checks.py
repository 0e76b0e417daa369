"""Checks before a migration: it is refused unless the results are complete, unchanged and not stale."""

from pathlib import Path
from typing import Any

from many_seeds.errors import UserError
from many_seeds.output.messages import listed
from stages.study import dvc, files, params, paths
from stages.study.params import Params
from stages.study.provenance import code_digests, environments, families
from tools import git, stale
from tools.migrate.version_1 import Version1

CUSTOM_DATA = "own"  # the folder of custom data, which are not in git and therefore not in a checkout


def check_results(commit: str) -> None:
    """Check that the working tree has the parameters and the results of a commit.

    Raises:
        UserError: it has others.
    """
    metrics = paths.RUNS.parent
    if differing := [*_changed_parameters(commit), *_changed_results(commit)]:
        raise UserError(
            f"the results here should be those of commit {commit[:7]}, the last with version 1; different are "
            f"{listed(differing)}. `git rm -rfq {metrics} && git checkout {commit[:7]} -- {params.PARAMS} {dvc.LOCK} "
            f"{metrics}` restores them, also in a merge with conflicts; use --from for another commit"
        )


def _changed_parameters(commit: str) -> list[str]:
    text = git.output("show", f"{commit}:./{params.PARAMS}").decode()
    then = files.yaml_values(text, f"{params.PARAMS} of {commit[:7]}") or {}
    now = files.yaml_values(params.read(), str(params.PARAMS))
    return [f"{key} of {params.PARAMS}" for key in ("data", "split", "variants") if now[key] != then.get(key)]


def _changed_results(commit: str) -> list[str]:
    lock = dvc.LOCK.read_bytes() if dvc.LOCK.exists() else b""
    changed = [] if _recorded(lock) == _recorded(git.output("show", f"{commit}:./{dvc.LOCK}")) else [str(dvc.LOCK)]
    names = git.output("diff", "--name-only", "--relative", "-z", commit, "--", str(paths.RUNS)).decode().split("\0")
    # A killed migration leaves environments.csv of some variants, which are written again.
    return changed + [name for name in names if name and Path(name).name != paths.environments_path("").name]


def _recorded(lock: bytes) -> dict[str, Any]:
    """The part of a dvc.lock that must not change: all stages but fetch and split, and the outputs of these two."""
    values = files.yaml_values(lock.decode(errors="replace"), str(dvc.LOCK)) or {}
    stages = dict(values.get("stages") or {})
    return stages | {name: stages[name].get("outs") for name in ("fetch", "split") if name in stages}


def check_not_stale(study: Params, old: Version1) -> None:
    """Check that the results of a commit match its code and parameters.

    Raises:
        UserError: they do not.
    """
    status = stale.status(study, old.folder)
    for part in status.get("fetch", []):
        if isinstance(part, dict):
            part.get("changed deps", {}).pop(CUSTOM_DATA, None)
    if found := stale.reasons(status):
        lines = "\n".join(f"  {stage}: {', '.join(reasons)}" for stage, reasons in found.items())
        raise UserError(
            f"the results of commit {old.commit[:7]} should match its code and parameters; some do not:\n{lines}\n"
            "Check out that commit, update its results with `dvc repro`, commit them, and migrate then; or, without a "
            "migration, `dvc repro` trains all runs again"
        )


def check_workspace(stages: list[Any]) -> None:
    """Check that data, models and results in the workspace are those that dvc.lock has recorded.

    Args:
        stages: stages of DVC.

    Raises:
        UserError: a file differs.
    """
    from dvc.dependency.param import ParamsDependency

    parts = [part for stage in stages for part in (*stage.deps, *stage.outs) if not isinstance(part, ParamsDependency)]
    differing = {str(part) for part in parts if part.hash_info and stale.MODIFIED in part.workspace_status().values()}
    if differing:
        raise UserError(
            f"data, models and results should be missing or as recorded in {dvc.LOCK}; different are "
            f"{listed(sorted(differing))}: move them away, or restore the recorded ones with `dvc checkout`"
        )


def check_scoring(old: Version1) -> None:
    """Check that version 1 has every definition of today's code for outputs and scores.

    Raises:
        UserError: a definition is missing or differs.
    """
    sources = [path.read_text(encoding="utf-8") for path in old.code_files("evaluate/*.py")]
    known = {text for source in sources for text in code_digests.definitions(source)}
    for path in environments.SCORING:
        definitions = code_digests.definitions(path.read_text(encoding="utf-8"))
        if missing := [text for text in definitions if text not in known]:
            raise UserError(
                f"every definition of stages/evaluate/{path.name} should be in stages/evaluate of commit "
                f"{old.commit[:7]}, which evaluated the results; {len(missing)} are missing or differ. Migrate with "
                "the first release of version 2, whose scores are those of version 1, then update to this release"
            )


def check_evaluated(variant: str, old: Version1) -> None:
    """Check that the code of a commit evaluated a variant.

    Raises:
        UserError: other code did.
    """
    path, code = paths.predictions_path(variant), families.source_digest(old.code_files("evaluate/*.py"))
    found = str(files.read_arrays(path).get("code"))
    if found != code:
        raise UserError(
            f"{path} should be of the code in stages/evaluate of commit {old.commit[:7]}, digest {code}, received "
            f"{found}: evaluate {variant} again with version 1, commit, and migrate then"
        )
