"""List stale stages: those whose code, parameters or inputs are not the ones of their results, with the reasons.

`python -m tools.stale` also works in a fresh clone without data and models, where `dvc status` lists every file that is
missing. It validates params.yaml first and changes nothing.
"""

import json
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from many_seeds.commands import console
from many_seeds.errors import UserError
from many_seeds.output.messages import listed
from stages.code.stage import variant_environments
from stages.study import dvc, params, paths
from stages.study.data import OWN
from stages.study.params import Params
from stages.study.provenance import environments
from stages.study.provenance.environments import CERTIFY, CERTIFY_EVALUATED, CODE, Environment
from stages.study.provenance.identities import variant_identity
from stages.train.plan import environments_here
from tools import training_time
from tools.removed import removed_variants

OUTPUTS, INPUTS = "changed outs", "changed deps"  # kinds of changes in `dvc status`
MISSING = {"deleted", "not in cache"}  # states of files that are not in the workspace: no evidence about the results
MODIFIED, NOT_RUN, LATER_RUN = "modified", "not run yet", "from a later run"
HINTS = {  # a part of an error of `dvc status` → what to do
    "not a git repository": "Without git, as in a downloaded ZIP file, DVC needs: dvc config --local core.no_scm true",
    "Permission denied": "DVC locks .dvc/tmp also if it only reads: make the checkout and DVC's cache writable for you "
    "(docs/dvc.md, Share a checkout), or use a clone of your own",
}
ADVERTISEMENT = "Having any troubles?"  # the last line of unexpected errors of DVC

Status = dict[str, list[Any]]  # stage → its changes, in the form of `dvc status --json`


class Change(NamedTuple):
    """A changed file or parameter of a stage.

    Attributes:
        kind: "changed outs" or "changed deps".
        name: the path of the file, or the key of params.yaml.
        state: such as "modified", "new" or "deleted".
    """

    kind: str
    name: str
    state: str


def reasons(status: Status) -> dict[str, list[str]]:
    """Why stages are stale.

    Args:
        status: the changes of the stages.

    Returns:
        Stage → reasons. A stage is left out if its files are only missing in this workspace.
    """
    # "not in cache" is the state of a missing output, and of one that differs from the recorded output. Only the second
    # one is a modified input of another stage.
    modified = {change.name for parts in status.values() for change in _changes(parts) if change.state == MODIFIED}
    found = {stage: _reasons(parts, modified) for stage, parts in status.items()}
    return {stage: listed for stage, listed in found.items() if listed}


def _reasons(parts: Iterable[Any], modified: set[str]) -> list[str]:
    texts = [part for part in parts if isinstance(part, str)]  # "changed command" or "always changed"
    return texts + [reason for change in _changes(parts) if (reason := _reason(change, modified))]


def _reason(change: Change, modified: set[str]) -> str | None:
    """Why a change makes its stage stale; None if it does not."""
    if change.kind == OUTPUTS and change.state in MISSING and change.name in modified:
        return f"its output {change.name} differs from the recorded one"
    if change.state in MISSING:
        return None
    return (
        f"its output {change.name} was {change.state}" if change.kind == OUTPUTS else f"{change.name} is {change.state}"
    )


def _changes(parts: Iterable[Any]) -> Iterator[Change]:
    """The changed files and parameters of a stage."""
    for part in parts:
        for kind, changes in part.items() if isinstance(part, dict) else ():
            for path, state in changes.items():
                states = state if isinstance(state, dict) else {path: state}  # params.yaml has a state for each key
                yield from (Change(kind, name, each) for name, each in states.items())


def missing(status: Status) -> list[str]:
    """The outputs that are not in this workspace."""
    changes = [change for parts in status.values() for change in _changes(parts)]
    outputs = [change.name for change in changes if change.kind == OUTPUTS and change.state in MISSING]
    return [path for path in outputs if not Path(path).exists()]  # a file that exists may be missing in the cache only


def following(stale: Iterable[str], stages: Iterable[str]) -> list[str]:
    """The stages that also run if the results of stale stages change.

    Args:
        stale: names of stale stages.
        stages: names of all stages, in order.

    Returns:
        Those of `stages` that depend on a stale stage and are not stale themselves.
    """
    stale = set(stale)
    data_are_stale = bool(stale & {"fetch", "split"})

    def follows(stage: str) -> bool:
        name, _, variant = stage.partition("@")
        earlier = {"evaluate": {f"train@{variant}"}, "aggregate": stale, "split": {"fetch"}}.get(name, set())
        return bool(stale & earlier) or (data_are_stale and bool(variant))

    return [stage for stage in stages if stage not in stale and follows(stage)]


def all_stages(study: Params) -> list[str]:
    """The names of all stages of a study, in order."""
    pairs = [f"{stage}@{variant}" for stage in ("train", "evaluate") for variant in study.variants]
    return ["fetch", "split", "code", "ledger", *pairs, "aggregate"]


def status(study: Params, folder: Path = Path(), stages: Sequence[str] = (), *, wait: bool = False) -> Status:
    """The changes of each stage since its results were made.

    In addition to `dvc status`, a stage is listed if it never ran, if an input is from a later run of another stage, or
    if it ran in another environment. Files in own/ are left out unless the study has custom data. The stage `code`
    takes a second and decides no result: its changes are listed for the stages that they make stale. Stages of removed
    variants may be in dvc.lock.

    Args:
        study: the parameters of the study.
        folder: the folder of the study.
        stages: the stages to list, which takes less time than all; all if empty.
        wait: whether to wait while another DVC command, such as `dvc push`, has the lock of the repository.

    Raises:
        UserError: `dvc status` fails, or dvc.lock is damaged.
    """
    named = stages or all_stages(study)
    with ThreadPoolExecutor(1) as pool:
        of_dvc = pool.submit(_dvc_status, folder, stages, wait)  # DVC takes seconds: the rest is found out meanwhile
        recorded = dvc.recorded(folder / dvc.LOCK)
        with_code = any(str(CODE) in entry.get("params", {}) for entry in recorded.values())
        changed = _changed_environments(study, recorded, named) if with_code else {}
    found: Status = {stage: parts if stage in recorded else [NOT_RUN] for stage, parts in of_dvc.result().items()}
    if study.data.format is None and "fetch" in found:  # built-in data: no file in own/ is read
        found["fetch"] = [_without(part, {OWN}) for part in found["fetch"]]
    found |= _with_later_runs(named, recorded, found)
    return _with_environments(found, changed) if with_code else found


def _with_later_runs(stages: Iterable[str], recorded: dict[str, Any], status: Status) -> Status:
    """The changes of those of `stages` of which an input is from a later run of another stage."""
    outputs = {out["path"]: out.get("md5") for entry in recorded.values() for out in entry.get("outs", ())}
    found: Status = {}
    for stage in stages:
        parts = status.get(stage, [])
        later = _later_runs(recorded[stage], parts, outputs) if stage in recorded else set()
        if later:
            # DVC calls these inputs modified, although the files in the workspace may be those of the later run.
            others = [_without(part, later) for part in parts]
            found[stage] = [*others, {INPUTS: dict.fromkeys(sorted(later), LATER_RUN)}]
    return found


def _later_runs(entry: dict[str, Any], parts: list[Any], outputs: dict[str, Any]) -> set[str]:
    """The inputs of a stage in dvc.lock that are outputs of a later run of another stage."""
    inputs = {dep["path"]: dep.get("md5") for dep in entry.get("deps", ())}
    modified = {change.name for change in _changes(parts) if change.state == MODIFIED}
    return {path for path in (inputs.keys() | modified) & outputs.keys() if inputs.get(path) != outputs[path]}


def _with_environments(status: Status, changed: Mapping[str, str]) -> Status:
    """The changes of all stages but `code`, with changed environments in place of a changed metrics/code.yaml."""
    found: Status = {
        stage: [_without(part, {str(CODE)}) for part in parts] for stage, parts in status.items() if stage != "code"
    }
    for stage, change in changed.items():
        found.setdefault(stage, []).append(change)
    return found


def _changed_environments(study: Params, recorded: dict[str, Any], stages: Iterable[str]) -> dict[str, str]:
    """Those of `stages` → how the environment of the recorded results differs from today's code and locked packages."""
    asked = {stage for stage in stages if "@" in stage}
    if not asked:
        return {}  # without the digests of the code, which take a second
    certificates, found = environments.read_certificates(), dict[str, str]()
    for part, of_variants in variant_environments(study).items():
        for variant, here in of_variants.items():
            stage = f"{part}@{variant}"
            then = recorded.get(stage, {}).get("params", {}).get(str(CODE), {}).get(f"{part}.{variant}")
            if stage in asked and then is not None and then != here:
                identity = variant_identity(study.recipe(variant), study)
                changes = environments.differences_from_certified(
                    identity, part, Environment.parse(then), Environment.parse(here), certificates
                )
                found[stage] = f"made in another environment: {', '.join(changes)}"
    return found


def _without(part: Any, inputs: set[str]) -> Any:
    """A part of a stage's changes without these inputs."""
    if not isinstance(part, dict) or INPUTS not in part:
        return part
    return part | {INPUTS: {path: state for path, state in part[INPUTS].items() if path not in inputs}}


def _dvc_status(folder: Path, stages: Sequence[str], wait: bool = False) -> Status:
    """The output of `dvc status --json` on stages in a folder, on all if `stages` is empty.

    Raises:
        UserError: the command fails.
    """
    waiting = ["--wait-for-lock"] if wait else []
    done = subprocess.run(
        dvc.command(*waiting, "status", "--json", *stages), cwd=folder, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        error = done.stderr.strip()
        hints = [hint for text, hint in HINTS.items() if text in error]
        raise UserError("\n".join([f"`dvc status` failed: {error.partition(ADVERTISEMENT)[0].rstrip()}", *hints]))
    return dict(json.loads(done.stdout or "{}"))


def installed_differ(study: Params) -> list[str]:
    """Lines about variants whose results were made with other packages than the installed ones.

    Variants are left out if the installed packages are the locked ones: their changes are in `status`.
    """
    locked = environments.locked_versions()
    try:
        here = environments_here(study.variants)
    except UserError as error:  # nothing can be trained here, so runs of two environments can't be mixed
        return [f"The installed packages can't be compared with those of the results: {error}"]
    changes = {
        variant: environments.changes_since(variant, variant_identity(recipe, study), here[variant])
        for variant, recipe in study.variants.items()
        if here[variant] != environments.current("train", recipe.family, locked)
    }
    lines = environments.trained_elsewhere(changes)
    return [*lines, environments.INSTALL] if lines else []


def report(study: Params, status: Status) -> str:
    """The stale stages with reasons, the stages that follow, and the missing outputs, as text."""
    stale = reasons(status)
    lines = [f"{stage}: {', '.join(listed)}" for stage, listed in stale.items()]
    if not stale:
        lines.append("Nothing is stale: the results match the code and the parameters.")
    elsewhere = {stage for stage, listed in stale.items() if any("another environment" in text for text in listed)}
    if any(stage.startswith("train@") for stage in elsewhere):
        lines.append(CERTIFY)
    if elsewhere & {f"evaluate@{variant}" for variant in _only_evaluated(stale)}:
        lines.append(CERTIFY_EVALUATED)
    lines += installed_differ(study)
    followers = following(stale, all_stages(study))
    if followers:
        lines.append(f"Also stale if their results change: {', '.join(followers)}")
    if to_train := [name for name in study.variants if f"train@{name}" in (*stale, *followers)]:
        lines.append(training_time.describe(study, to_train, data_are_stale=bool(stale.keys() & {"fetch", "split"})))
    if outputs := missing(status):
        lines.append(_describe_missing(outputs, _only_evaluated(stale)))
    return "\n".join(lines)


def _only_evaluated(stale: Iterable[str]) -> list[str]:
    """The variants that are evaluated again but not trained again."""
    names = [stage.partition("@")[2] for stage in stale if stage.startswith("evaluate@")]
    return [name for name in names if f"train@{name}" not in stale]


def _describe_missing(outputs: list[str], evaluated: list[str]) -> str:
    """The missing outputs and the commands that restore them.

    Args:
        outputs: their paths.
        evaluated: the variants that are evaluated again but not trained again.
    """
    models = [path for path in outputs if path.startswith(f"{paths.MODELS}/")]
    listed = [path for path in outputs if path not in models]
    if models:
        listed.append(f"the models of {len(models)} variant(s)")
    text = f"Not in this workspace: {', '.join(listed)}. `dvc pull` downloads what was pushed to a remote"
    if needed := [name for name in evaluated if f"{paths.MODELS}/{name}" in outputs]:
        few = len(needed) <= 3
        stages = " ".join(f"evaluate@{name}" for name in needed) if few else "evaluate@VARIANT"
        names = ", ".join(needed) if few else f"{len(needed)} variants"
        return (
            f"{text}. To evaluate {names} again, {'its' if len(needed) == 1 else 'their'} models are "
            f"needed: without a remote, `dvc repro {stages}` trains them first."
        )
    return (
        f"{text}; `dvc repro split` and `dvc repro --allow-missing` rebuild what is stale without the models of the "
        "other variants."
    )


@console.command
def main() -> None:
    console.take_no_arguments("tools.stale", __doc__)
    study = params.load()
    lines = report(study, status(study)).splitlines()
    if names := removed_variants(study):
        lines.append(
            f"Not in params.yaml any more, but still in metrics/runs, models or dvc.lock: {listed(names)}. `python -m "
            "tools.removed` moves what they have left to build/removed"
        )
    console.show("\n".join(lines))


if __name__ == "__main__":
    main()
