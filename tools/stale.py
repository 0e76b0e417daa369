"""What is stale: the stages whose code, parameters or inputs are not those of their results, and why.

`python -m tools.stale` works in a fresh clone, without data and models, where `dvc status` lists all that is not here.
It checks params.yaml first, and changes nothing.
"""

import json
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from many_seeds import console
from many_seeds.errors import UserError
from stages.code import __main__ as code
from stages.study import dvc, environments, params, paths
from stages.study.environments import CERTIFY, CODE, Environment
from stages.train.plan import environment_here

GONE = {"deleted", "not in cache"}  # what is not in this workspace, which says nothing about the results
OTHER = "modified"

Status = dict[str, list[Any]]  # stage → what has changed, as `dvc status --json` has it


def reasons(status: Status) -> dict[str, list[str]]:
    """Stage → why it is stale, of what `status` says; stages that only lack files here are left out."""
    # DVC says "not in cache" of a result that is not here, and of one that is, but is another than it has recorded.
    others = {name for parts in status.values() for part in parts for _, name, how in _changes(part) if how == OTHER}
    found = {stage: [why for part in parts for why in _reasons(part, others)] for stage, parts in status.items()}
    return {stage: whys for stage, whys in found.items() if whys}


def _reasons(part: Any, others: set[str]) -> Iterator[str]:
    if isinstance(part, str):  # "changed command", "always changed"
        yield part
    for kind, name, how in _changes(part):
        if kind == "changed outs" and how in GONE and name in others:
            yield f"its result {name} is another than was recorded"
        elif how not in GONE:
            yield f"its result {name} was {how}" if kind == "changed outs" else f"{name} is {how}"


def _changes(part: Any) -> Iterator[tuple[str, str, str]]:
    """Kind, name and state of what has changed."""
    for kind, changes in part.items() if isinstance(part, dict) else ():
        for path, state in changes.items():
            states = state if isinstance(state, dict) else {path: state}  # of the keys of params.yaml, one each
            yield from ((kind, name, how) for name, how in states.items())


def missing(status: Status) -> list[str]:
    """The outputs that are not in this workspace."""
    parts = [part for parts in status.values() for part in parts if isinstance(part, dict)]
    gone = [path for part in parts for path, how in part.get("changed outs", {}).items() if how in GONE]
    return [path for path in gone if not Path(path).exists()]  # what is here may only be missing in the cache


def following(stale: Iterable[str], stages: Iterable[str]) -> list[str]:
    """Those of `stages` that run too if the results of the stale ones change."""
    stale = set(stale)
    early = bool(stale & {"fetch", "split"})

    def follows(stage: str) -> bool:
        name, _, variant = stage.partition("@")
        before = {"evaluate": {f"train@{variant}"}, "aggregate": stale, "split": {"fetch"}}.get(name, set())
        return bool(stale & before) or (early and bool(variant))

    return [stage for stage in stages if stage not in stale and follows(stage)]


def all_stages(study: params.Params) -> list[str]:
    pairs = [f"{stage}@{variant}" for stage in ("train", "evaluate") for variant in study.variants]
    return ["fetch", "split", "code", *pairs, "aggregate"]


def status(study: params.Params, lock: Path = dvc.LOCK) -> Status:
    """What `dvc status` says, and of stages that have not run yet, or before one whose results they use, only that.

    The lock may have stages of variants that the study has no more. The stage `code` takes a second and decides nothing
    by itself: what it would change is said of the stages that it makes stale.

    Raises:
        UserError: DVC can't tell, or the lock is damaged.
    """
    return _judged(study, _dvc_status(), lock)


def status_in(folder: Path, study: params.Params) -> Status:
    """The same of a study that lies in another folder.

    Raises:
        UserError: DVC can't tell, or the lock is damaged.
    """
    return _judged(study, _dvc_status(folder), folder / dvc.LOCK)


def _judged(study: params.Params, answered: Status, lock: Path) -> Status:
    stages = dvc.recorded(lock)
    found: Status = {stage: parts if stage in stages else ["not run yet"] for stage, parts in answered.items()}
    made = {out["path"]: out.get("md5") for entry in stages.values() for out in entry.get("outs", ())}
    for stage in filter(stages.__contains__, all_stages(study)):
        entry = stages[stage]
        used = {dep["path"]: dep.get("md5") for dep in entry.get("deps", ())}
        named = used.keys() | {name for part in found.get(stage, ()) for _, name, how in _changes(part) if how == OTHER}
        later = {path for path in named & made.keys() if used.get(path) != made[path]}
        if later:
            # That DVC calls them modified says nothing about the files here: they may be those of the later run.
            parts = [_without(part, later) for part in found.get(stage, ())]
            found[stage] = [*parts, {"changed deps": dict.fromkeys(sorted(later), "of a later run")}]
    if "code" in stages:
        found.pop("code", None)
        found = {stage: [_without(part, {str(CODE)}) for part in parts] for stage, parts in found.items()}
        for stage, why in _other_environments(study, stages).items():
            found.setdefault(stage, []).append(why)
    return found


def _other_environments(study: params.Params, stages: dict[str, Any]) -> dict[str, str]:
    """Stage → how the environment of its recorded results differs from today's code and the locked packages."""
    found: dict[str, str] = {}
    wanted = code.wanted(study)
    for part in environments.PARTS:
        for variant, text in wanted[part].items():
            stage = f"{part}@{variant}"
            recorded = stages.get(stage, {}).get("params", {}).get(str(CODE), {}).get(f"{part}.{variant}")
            if recorded is not None and recorded != text:
                changes = Environment.parse(recorded).differences(Environment.parse(text), part)
                found[stage] = f"made in another environment: {', '.join(changes)}"
    return found


def _without(part: Any, deps: set[str]) -> Any:
    if not isinstance(part, dict) or "changed deps" not in part:
        return part
    return part | {"changed deps": {path: state for path, state in part["changed deps"].items() if path not in deps}}


def _dvc_status(folder: Path | None = None) -> Status:
    """What `dvc status --json` says of the study in `folder`, or in the current one.

    Raises:
        UserError: DVC can't tell.
    """
    answer = subprocess.run(dvc.command("status", "--json"), cwd=folder, capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        said = answer.stderr.strip()
        if "not a git repository" in said:
            said += "\nWithout git, as from a ZIP file, DVC needs: dvc config --local core.no_scm true"
        raise UserError(f"`dvc status` failed: {said}")
    return dict(json.loads(answer.stdout or "{}"))


def installed_differ(study: params.Params) -> list[str]:
    """Lines where the installed packages are not the locked ones, and the results are of other packages."""
    locked = environments.locked_versions()
    try:
        here = {variant: environment_here(recipe) for variant, recipe in study.variants.items()}
    except UserError as error:  # nothing can be trained here, so nothing can be mixed
        return [f"Whether what is installed here fits the results can't be said: {error}"]
    changes = {
        variant: environments.changes_since(variant, here[variant])
        for variant, recipe in study.variants.items()
        if here[variant] != environments.current("train", recipe.family, locked)
    }
    lines = environments.trained_elsewhere(changes)
    return [*lines, environments.INSTALL] if lines else []


def report(study: params.Params, status: Status) -> str:
    """What is stale, what follows from it, and what is not here, in words."""
    stale = reasons(status)
    lines = [f"{stage}: {', '.join(whys)}" for stage, whys in stale.items()]
    if not stale:
        lines = ["Nothing is stale: the results belong to the code and the parameters."]
    if any("another environment" in why for whys in stale.values() for why in whys):
        lines.append(CERTIFY)
    lines += installed_differ(study)
    if then := following(stale, all_stages(study)):
        lines.append(f"if their results change, then too: {', '.join(then)}")
    if gone := missing(status):
        models = [path for path in gone if path.startswith(f"{paths.MODELS}/")]
        others = [path for path in gone if path not in models]
        named = others + ([f"the models of {len(models)} variant(s)"] if models else [])
        lines.append(
            f"Not in this workspace: {', '.join(named)}. `dvc pull` brings them where somebody has pushed them; "
            "`dvc repro split` and `dvc repro --allow-missing` make what is stale without the models of the others."
        )
    return "\n".join(lines)


@console.command
def main() -> None:
    console.take_no_arguments("tools.stale", __doc__)
    study = params.load()
    print(report(study, status(study)))


if __name__ == "__main__":
    main()
