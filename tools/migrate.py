"""Bring results of version 1 to the pipeline of version 2, once, without training or evaluating anything.

Version 1 took the folders of code for what its results depend on; version 2 has a stage `code` instead, and records
which environment made each run. What is written is only what follows from the results: each run's key from the code and
the packages of version 1, each evaluation from its code.
"""

import argparse
import contextlib
import functools
import io
import logging
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from many_seeds import console
from many_seeds.errors import UserError
from stages.code.stage import variant_environments
from stages.recipes.shared.recipe import Recipe
from stages.study import dvc, environments, families, files, params, paths
from stages.study.environments import CERTIFIED, CODE, LOCKED, PARTS, Environment, Part
from stages.study.models import read_facts
from stages.study.params import Params
from stages.study.results import ENVIRONMENT_COLUMNS, NOT_RECORDED, find_evaluated_runs
from stages.study.splits import read_validation
from stages.train.run import run_key
from tools import stale

PIPELINE = Path("dvc.yaml")
OWN = "own"  # custom data, which git does not have, so that a checkout says nothing about them
Lines = dict[Part, dict[str, str]]  # of metrics/code.yaml: part → variant → environment


@dataclass(frozen=True)
class Packages:
    """Versions that may have trained a run.

    Attributes:
        versions: of the packages, as a run's key has them.
        evaluating: the same with TensorFlow, which evaluates what a GPU has trained through JAX.
        executor: a digest of the code of the executor, where it has a part in the key.
        source: where they stand, in words.
    """

    versions: dict[str, str]
    evaluating: dict[str, str]
    executor: str | None
    source: str


@dataclass(frozen=True)
class Version1:
    """The last commit of a study with version 1.

    Attributes:
        commit: its full name.
        folder: a copy of its files, without data and models.
        packages: that may have trained its runs.
    """

    commit: str
    folder: Path
    packages: list[Packages]

    def files_of(self, pattern: str) -> list[Path]:
        return sorted((self.folder / "stages").glob(pattern))

    def code_digest(self, family: str) -> str:
        """What `families.code_digest` was."""
        return families.meaning([*self.files_of("recipes/shared/*.py"), *self.files_of(f"recipes/{family}.py")])


@dataclass(frozen=True)
class Made:
    """How a variant's results came to be.

    Attributes:
        rows: of environments.csv.
        line: of metrics/code.yaml, by its part: train or evaluate.
    """

    rows: pd.DataFrame
    line: dict[Part, Environment]


def migrate(revision: str | None) -> None:
    """Write what version 2 has beside the results of version 1, and record it in dvc.lock.

    Args:
        revision: the last commit with version 1; None for the newest one.

    Raises:
        UserError: the results are not those of that commit, something was stale there, or it does not follow from
            them what made them. Nothing is changed then.
    """
    study = params.load()
    if migrated(study):
        print("already migrated: dvc.lock has its stages as version 2 has them")
        return
    with version_1(commit_of(revision)) as old, locked_repository() as repository:
        see_same_results(old.commit)
        see_nothing_stale(study, old)
        stages = {stage.addressing: stage for stage in repository.index.stages}
        changing = [stages[f"{name}@{variant}"] for variant in study.variants for name in PARTS]
        see_same_files(changing)
        see_same_scoring(old)
        made = {variant: made_by(variant, recipe, old) for variant, recipe in study.variants.items()}
        written = write(made)
        lines = lines_of(made)
        record(repository, ([stages["code"]] if lines == variant_environments(study) else []) + changing)
    print(report(old.commit, made, written, lines, variant_environments(study)))


def migrated(study: Params) -> bool:
    """Whether dvc.lock has the stages of every variant as version 2 has them."""
    names = [f"{name}@{variant}" for variant in study.variants for name in PARTS]
    recorded = dvc.recorded()
    return all(CODE.as_posix() in recorded.get(name, {}).get("params", {}) for name in names)


# ---- the last commit with version 1


def git(*arguments: str) -> bytes:
    """What git says.

    Raises:
        UserError: it fails.
    """
    try:
        answer = subprocess.run(["git", *arguments], capture_output=True, check=False)
    except FileNotFoundError:
        raise UserError("migrating needs git, which is not installed here") from None
    if answer.returncode != 0:
        raise UserError(f"`git {' '.join(arguments)}` failed: {answer.stderr.decode(errors='replace').strip()}")
    return answer.stdout


def commit_of(revision: str | None) -> str:
    """The full name of `revision`, or of the newest commit with version 1.

    Raises:
        UserError: it has version 2, or no commit has version 1.
    """
    if revision is not None:
        commit = git("rev-parse", "--verify", f"{revision}^{{commit}}").decode().strip()
        if not is_version_1(commit):
            raise UserError(
                f"--from should name the last commit of this study with version 1; received {revision}, whose "
                f"{PIPELINE} is missing or has the stage `code` of version 2"
            )
        return commit
    head = git("rev-parse", "--verify", "HEAD^{commit}").decode().strip()
    if is_version_1(head):
        return head
    # First parents only: a merge of version 2 into a study has this study's own commits there.
    for changed in git("rev-list", "--first-parent", "HEAD", "--", str(PIPELINE)).decode().split():
        before = git("rev-list", "--max-count=2", "--first-parent", changed).decode().split()[1:]
        if before and is_version_1(before[0]):
            return before[0]
    raise UserError(
        f"no commit before this one has the {PIPELINE} of version 1: name the last with --from (in a shallow clone, "
        "`git fetch --unshallow` brings the commits that it lacks)"
    )


def is_version_1(commit: str) -> bool:
    """Whether this commit has a pipeline without the stage `code`."""
    try:
        text = git("show", f"{commit}:./{PIPELINE}").decode()
    except UserError:
        return False
    return "code" not in (files.yaml_values(text, f"{PIPELINE} of {commit[:7]}") or {}).get("stages", {"code": None})


@contextlib.contextmanager
def version_1(commit: str) -> Iterator[Version1]:
    """The files of the commit, in a folder that is gone after the block."""
    with tempfile.TemporaryDirectory(prefix="many-seeds-migrate-") as scratch:
        folder = Path(scratch) / "study"
        with tarfile.open(fileobj=io.BytesIO(git("archive", "--format=tar", commit))) as archive:
            archive.extractall(folder, filter="tar")
        (folder / ".dvc").mkdir(exist_ok=True)
        (folder / ".dvc/config.local").write_text("[core]\n    no_scm = true\n", encoding="utf-8")  # DVC without git
        old = Version1(commit, folder, [])
        old.packages.extend(known_packages(old))
        yield old


# ---- what is refused


def see_same_results(commit: str) -> None:
    """See that the working tree has the study and the results of the commit.

    Raises:
        UserError: it has others.
    """
    there = files.yaml_values(git("show", f"{commit}:./{params.PARAMS}").decode(), f"{params.PARAMS} of {commit[:7]}")
    here = files.yaml_values(params.read(), str(params.PARAMS))
    differing = [
        f"{key} of {params.PARAMS}" for key in ("data", "split", "variants") if here[key] != (there or {}).get(key)
    ]
    if recorded(dvc.LOCK.read_bytes() if dvc.LOCK.exists() else b"") != recorded(git("show", f"{commit}:./{dvc.LOCK}")):
        differing.append(str(dvc.LOCK))
    changed = git("diff", "--name-only", "--relative", "-z", commit, "--", str(paths.RUNS)).decode().split("\0")
    # A migration that was killed leaves these; they are written anew.
    differing += [name for name in changed if name and Path(name).name != paths.environments_path("").name]
    if differing:
        raise UserError(
            f"the results here should be those of commit {commit[:7]}, the last with version 1; other than there are "
            f"{in_few(differing)}. `git restore --source {commit[:7]} --staged --worktree -- {params.PARAMS} "
            f"{dvc.LOCK} {paths.RUNS}` brings them back; --from names another commit"
        )


def recorded(lock: bytes) -> dict[str, Any]:
    """What a dvc.lock says of train, evaluate and aggregate, and of what fetch and split have made."""
    values = files.yaml_values(lock.decode(errors="replace"), str(dvc.LOCK)) or {}
    stages = dict(values.get("stages") or {})
    return stages | {name: stages[name].get("outs") for name in ("fetch", "split") if name in stages}


def see_nothing_stale(study: Params, old: Version1) -> None:
    """See that the results of the commit belonged to its code and parameters.

    Raises:
        UserError: they did not.
    """
    status = stale.status(study, old.folder)
    for part in status.get("fetch", []):
        if isinstance(part, dict):
            part.get("changed deps", {}).pop(OWN, None)
    if found := stale.reasons(status):
        listed = "\n".join(f"  {stage}: {', '.join(whys)}" for stage, whys in found.items())
        raise UserError(
            f"the results of commit {old.commit[:7]} should belong to its code and parameters; some do not:\n"
            f"{listed}\nCheck that commit out, bring its results up to date with `dvc repro`, commit them, and migrate "
            "then; or don't migrate: `dvc repro` trains everything anew"
        )


def see_same_files(stages: list[Any]) -> None:
    """See that what is here of data, models and results is what dvc.lock has recorded.

    Raises:
        UserError: something is another.
    """
    from dvc.dependency.param import ParamsDependency

    known = [part for stage in stages for part in (*stage.deps, *stage.outs) if not isinstance(part, ParamsDependency)]
    others = {str(part) for part in known if part.hash_info and stale.MODIFIED in part.workspace_status().values()}
    if others:
        raise UserError(
            f"data, models and results should be missing here or those that {dvc.LOCK} has recorded; others are "
            f"{in_few(sorted(others))}: move them away, or bring back the recorded ones with `dvc checkout`"
        )


def see_same_scoring(old: Version1) -> None:
    """See that today's code for outputs and scores is in version 1's.

    Raises:
        UserError: it is not, or there is none in version 1.
    """
    sources = [path.read_text(encoding="utf-8") for path in old.files_of("evaluate/*.py")]
    there = {text for source in sources for text in families.definitions(source)}
    for path in environments.SCORING:
        if lacking := [text for text in families.definitions(path.read_text(encoding="utf-8")) if text not in there]:
            raise UserError(
                f"every definition in stages/evaluate/{path.name} should stand in stages/evaluate of commit "
                f"{old.commit[:7]}, which evaluated the results; {len(lacking)} are not there, or differ. Migrate with "
                "the first release of version 2, whose scores are those of version 1, then go on to this one"
            )


# ---- what made the results


def known_packages(old: Version1) -> list[Packages]:
    """The versions that requirements.lock has had until this commit, newest first, and the installed ones."""
    lanes = old.files_of("train/executors/lanes/*.py")
    executors = [None, families.meaning(lanes)] if lanes else [None]
    by_source: dict[str, dict[str, dict[str, str]]] = {}
    for commit in git("log", "--format=%H", old.commit, "--", str(LOCKED)).decode().split():
        path = old.folder / f"{commit}.lock"
        with contextlib.suppress(UserError):  # a commit that deletes it
            path.write_bytes(git("show", f"{commit}:./{LOCKED}"))
        by_source[f"{LOCKED} of {commit[:7]}"] = of_backends(functools.partial(environments.locked_versions, path))
    by_source["the installed packages"] = of_backends(environments.installed_versions)
    return [
        Packages(versions, of.get("tensorflow", versions), executor, source)
        for source, of in by_source.items()
        for backend, versions in of.items()
        for executor in (executors if backend == "jax" else [None])
    ]


def of_backends(versions_of: Callable[[str], dict[str, str]]) -> dict[str, dict[str, str]]:
    """Backend → versions, of those that are known."""
    found = {}
    for backend in environments.BACKEND_PACKAGES:
        with contextlib.suppress(UserError):
            found[backend] = versions_of(backend)
    return found


def made_by(variant: str, recipe: Recipe, old: Version1) -> Made:
    """What made the results of a variant.

    Raises:
        UserError: it does not follow from them.
    """
    see_evaluated(variant, old)
    results = find_evaluated_runs(variant)
    if results is None:
        raise UserError(f"{paths.scores_path(variant)} is missing: restore it with git")
    table, code, scoring = results.scores, old.code_digest(recipe.family), environments.scoring_digest()
    rows: list[list[Any]] = []
    found: dict[int, Packages | None] = {}
    for seed, key, data in zip(table["seed"].tolist(), table["key"], table["data"], strict=True):
        facts = facts_here(variant, seed, key)
        known = [*said_by(facts, old), *old.packages]
        found[seed] = packages = packages_of(variant, recipe, seed, key, {"data": data, "code": code}, known)
        if packages is not None:
            trained = Environment(code, packages.versions, packages.executor)
            # What a GPU has trained is evaluated by TensorFlow; else the backend is the same.
            scored = Environment(scoring, packages.evaluating if packages.executor else packages.versions)
            model = facts.get("digests", {}).get("model", NOT_RECORDED)
            rows.append([seed, str(trained), str(scored), model, facts.get("processor", NOT_RECORDED)])
    versions = one_of(variant, found, old)
    # The stage `code` knows of no executor, and names TensorFlow's versions.
    line: dict[Part, Environment] = {"train": Environment(code, versions), "evaluate": Environment(scoring, versions)}
    return Made(pd.DataFrame(rows, columns=ENVIRONMENT_COLUMNS), line)


def packages_of(
    variant: str, recipe: Recipe, seed: int, key: str, digests: dict[str, str], known: list[Packages]
) -> Packages | None:
    """Those of `known` from which the run's key follows."""
    if recipe.uses_dev:
        if not paths.DEV.exists():
            raise UserError(
                f"{paths.DEV} is missing, which decides the keys of {variant}: run `dvc repro split`, then this again"
            )
        digests = digests | {"dev": files.digest(read_validation(seed))}
    for packages in known:
        executor = {"executor": packages.executor} if packages.executor else {}
        if run_key(variant, recipe, seed, digests | executor, packages.versions) == key:
            return packages
    return None


def one_of(variant: str, found: dict[int, Packages | None], old: Version1) -> dict[str, str]:
    """The versions, with TensorFlow's, of all seeds of a variant.

    Raises:
        UserError: a seed's are not known, or they differ.
    """
    if unknown := [str(seed) for seed, packages in found.items() if packages is None]:
        tried = "; ".join(f"{packages.source}: {Environment('', packages.versions)}" for packages in old.packages)
        raise UserError(
            f"the keys in {paths.scores_path(variant)} should follow from the recipe, the code of commit "
            f"{old.commit[:7]} and packages that are known; those of seed(s) {in_few(unknown)} follow from none of: "
            f"{tried.replace('code= ', '')}. Install the packages that trained them, or have their models here, and "
            f"run this again; or train {variant} anew with version 1, commit, and migrate then"
        )
    versions = [packages.evaluating for packages in found.values() if packages is not None]
    if any(others != versions[0] for others in versions):
        texts = sorted({str(Environment("", others)).removeprefix("code= ") for others in versions})
        raise UserError(
            f"the seeds of {variant} should have been trained with the same packages, found {'; '.join(texts)}: train "
            "the variant anew with version 1, commit, and migrate then"
        )
    return versions[0]


def see_evaluated(variant: str, old: Version1) -> None:
    """See that the code of the commit has evaluated the variant.

    Raises:
        UserError: another has.
    """
    path, code = paths.predictions_path(variant), families.meaning(old.files_of("evaluate/*.py"))
    found = files.read_arrays(path).get("code")
    if str(found) != code:
        raise UserError(
            f"{path} should be of the code in stages/evaluate of commit {old.commit[:7]}, digest {code}, received "
            f"{found}: evaluate {variant} anew with version 1, commit, and migrate then"
        )


def facts_here(variant: str, seed: int, key: str) -> dict[str, Any]:
    """What run.json says of the run, where just its model is here."""
    folder = paths.run_path(variant, seed)
    facts = read_facts(folder) if (folder / "model.keras").exists() else {}
    return facts if facts.get("key") == key else {}


def said_by(facts: dict[str, Any], old: Version1) -> list[Packages]:
    """The packages that run.json names, with TensorFlow's of requirements.lock where it names another backend."""
    if "versions" not in facts:
        return []
    versions = dict(facts["versions"])
    others = [known.evaluating for known in old.packages if "tensorflow" in known.evaluating]
    evaluating = versions if "tensorflow" in versions else next(iter(others), versions)
    return [Packages(versions, evaluating, facts["digests"].get("executor"), "run.json")]


# ---- what is written


@contextlib.contextmanager
def locked_repository() -> Iterator[Any]:
    """DVC's repository in this folder, under its lock.

    Raises:
        UserError: DVC refuses, as where another of its commands runs.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    logging.getLogger("dvc").setLevel(logging.WARNING)  # it would name a scratch file
    try:
        repository = Repo(".")
        with contextlib.closing(repository), repository.lock:
            yield repository
    except DvcException as error:
        raise UserError(f"DVC refuses: {error}. Mend that and run this again") from error


def lines_of(made: dict[str, Made]) -> Lines:
    """What metrics/code.yaml should say, so that a variant is stale where today's code or packages are others."""
    certificates = environments.read_certificates()
    return {
        part: {
            variant: str(environments.canonical(variant, part, how.line[part], certificates))
            for variant, how in made.items()
        }
        for part in PARTS
    }


def write(made: dict[str, Made]) -> list[str]:
    """Write what version 2 has in metrics/ beside the results of version 1; what was written, in words."""
    for variant, how in made.items():
        files.write_table(paths.environments_path(variant), how.rows)
    written = [f"{paths.environments_path('<variant>')} of {len(made)} variant(s)"]
    if not CERTIFIED.exists():
        files.write_table(CERTIFIED, environments.read_certificates())
        written.append(str(CERTIFIED))
    files.write_yaml(CODE, lines_of(made))
    return [*written, str(CODE), str(dvc.LOCK)]


def record(repository: Any, stages: list[Any]) -> None:
    """Record the stages as they are in dvc.lock, which is replaced once they all are."""
    from dvc.dvcfile import Lockfile

    with files.written_whole(dvc.LOCK) as unfinished:
        unfinished.write_bytes(dvc.LOCK.read_bytes())
        for stage in stages:
            stage.save(allow_missing=True, run_cache=False)
        Lockfile(repository, str(unfinished.resolve())).dump_stages(stages)


def report(commit: str, made: dict[str, Made], written: list[str], lines: Lines, today: Lines) -> str:
    """What was done, what today's code or packages make stale, and what to do next."""
    runs = sum(len(how.rows) for how in made.values())
    said = [
        f"Migrated {runs} runs of {len(made)} variant(s) from commit {commit[:7]}; nothing was trained or evaluated."
    ]
    said += [f"Written: {', '.join(written)}"]
    stale: dict[str, list[str]] = {}
    for part in PARTS:
        for variant, text in lines[part].items():
            found = Environment.parse(text).differences(Environment.parse(today[part][variant]), part)
            if found:
                stale.setdefault(f"{part}, {', '.join(found)}", []).append(variant)
    said += [f"Stale, as it was made otherwise than today: {why}: {in_few(names)}" for why, names in stale.items()]
    following = "dvc repro --allow-missing" + ("" if stale else " aggregate")
    return "\n".join([*said, f"Next: `{following}`, then `git add --all` and a commit"])


def in_few(names: list[str], most: int = 8) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


@console.command
def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tools.migrate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--from",
        dest="revision",
        metavar="REV",
        help="the last commit of this study with version 1 (default: HEAD, or where that has version 2, the newest)",
    )
    migrate(parser.parse_args().revision)


if __name__ == "__main__":
    main()
