"""The code of former commits: which commit has the code of an environment, and a checkout of it."""

import contextlib
import io
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

from many_seeds.errors import UserError
from stages.recipes.shared.training import backend
from stages.study import environments, families, files
from stages.study.environments import LOCKED, SCORING, Environment

PROJECT = families.FOLDER.parents[1]
RELATIVE_SCORING = [path.relative_to(PROJECT) for path in SCORING]
RECIPES = families.FOLDER.relative_to(PROJECT)
CHECKOUT = "code-"  # how the folders of checkouts begin
# What a commit's own code calls its digest, where the form of digests has changed since.
OWN_DIGEST = """
import sys
try:
    from stages.study import families
except ImportError:  # as in version 1
    from stages import families
print(families.code_digest(sys.argv[1]))
"""


def find(family: str, train: Environment, evaluate: Environment | None) -> str | None:
    """The newest commit that has the code of these environments, and where that matters locks their packages.

    Args:
        family: the family of models.
        train: the environment of training.
        evaluate: that of evaluation, or None where no code that evaluates is needed.
    """
    installed = environments.installed("train", family).versions
    if evaluate is not None and evaluate.versions != train.versions:
        return None
    found = list(_commits())
    for own in (False, True):
        for commit in found:
            with _extracted(commit) as folder:
                if (
                    folder is not None
                    and _has_code(folder, family, train, own)
                    and (evaluate is None or _scoring(folder) == evaluate.code)
                    and (train.versions == installed or _locked(folder) == train.versions)
                ):
                    return commit
    return None


def _git(*arguments: str) -> str:
    answer = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        raise UserError(f"`git {' '.join(arguments)}` failed: {answer.stderr.strip()}")
    return answer.stdout


def _commits() -> Iterator[str]:
    """The last commit of each state of what decides bits, newest first.

    Commits between two that touch it have the code of the older one, and the newest of them has the newest of all else.
    """
    if shutil.which("git") is None:
        return
    paths = [str(RECIPES), str(LOCKED), *map(str, RELATIVE_SCORING)]
    try:
        lines = _git("log", "--format=%H %P", "--", *paths).splitlines()
        touched = [commit for line in lines for commit in (line.split()[0], *line.split()[1:2])]
        states = set()
        for commit in [_git("rev-parse", "HEAD").strip(), *touched] if lines else []:
            with contextlib.suppress(UserError):  # a parent that a shallow clone lacks
                state = _git("ls-tree", commit, "--", *paths)
                if state not in states:
                    states.add(state)
                    yield commit
    except UserError:  # no checkout
        return


@contextlib.contextmanager
def _extracted(commit: str) -> Iterator[Path | None]:
    """The code of a commit and its lock, in a folder of its own; None where the commit has none."""
    wanted = ("many_seeds", "stages", str(LOCKED))
    paths = [name for name in _git("ls-tree", "--name-only", commit).splitlines() if name in wanted]
    if not {"stages", str(LOCKED)} <= {*paths}:
        yield None
        return
    answer = subprocess.run(["git", "archive", "--format=tar", commit, *paths], capture_output=True, check=True)
    with tempfile.TemporaryDirectory() as folder, tarfile.open(fileobj=io.BytesIO(answer.stdout)) as archive:
        archive.extractall(folder, filter="data")
        yield Path(folder)


def _has_code(folder: Path, family: str, environment: Environment, own: bool) -> bool:
    recipes = folder / RECIPES
    if not (recipes / f"{family}.py").exists():
        return False
    if not own:
        with contextlib.suppress(UserError):  # a commit without today's structure of recipes
            return families.code_digest(family, recipes) == environment.code
        return False
    command = [sys.executable, "-c", OWN_DIGEST, family]
    answer = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return answer.stdout.strip() == environment.code


def _scoring(folder: Path) -> str | None:
    paths = [folder / path for path in RELATIVE_SCORING]
    return families.definitions_digest(paths) if all(path.exists() for path in paths) else None


def _locked(folder: Path) -> dict[str, str] | None:
    try:
        return environments.locked_versions(folder / LOCKED)
    except UserError:
        return None


@contextlib.contextmanager
def checkout(commit: str, parent: Path) -> Iterator[Path]:
    """A worktree of a commit with the data of this study, gone afterwards.

    Args:
        commit: the commit.
        parent: the folder to have it in; what a killed process left there is deleted.

    Yields:
        The folder of the study in it.

    Raises:
        UserError: git can't check it out.
    """
    for former in parent.glob(f"{CHECKOUT}*"):
        _remove(former)
    parent.mkdir(parents=True, exist_ok=True)
    folder = parent / f"{CHECKOUT}{commit[:12]}"
    try:
        _git("worktree", "add", "--quiet", "--detach", str(folder.resolve()), commit)
        study = folder.resolve() / _git("rev-parse", "--show-prefix").strip()
        (study / "data").symlink_to(Path("data").resolve(), target_is_directory=True)
        yield study
    finally:
        _remove(folder)


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    _git("worktree", "prune")


def python_of(environment: Environment, study: Path, folder: Path) -> str:
    """A Python with the packages of an environment: this one, or a virtual environment, which is made and kept.

    Args:
        environment: the environment.
        study: a checkout whose requirements.lock has its packages.
        folder: where virtual environments lie.

    Raises:
        UserError: the packages can't be installed.
    """
    if environment.versions == environments.installed_versions(backend()):
        return sys.executable
    lock = (study / LOCKED).read_text(encoding="utf-8")
    place = folder / f"env-{files.digest(lock, sys.version)[:12]}"
    python = place.resolve() / "bin" / "python"
    if (place / "ready").exists():
        return str(python)
    print(f"installing the packages of {LOCKED} of that commit into {place}", flush=True)
    shutil.rmtree(place, ignore_errors=True)
    uv = Path(sys.executable).with_name("uv")
    install = [str(uv), "pip", "install", "--quiet", "--system-certs", "--python", str(python)]
    if not uv.exists():
        install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    _run([sys.executable, "-m", "venv", *(["--without-pip"] if uv.exists() else []), str(place)])
    _run([*install, "-c", str(LOCKED), ".[cpu,pipeline]"], study)
    (place / "ready").touch()
    return str(python)


def _run(command: list[str], folder: Path | None = None) -> None:
    answer = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        raise UserError(f"`{' '.join(command)}` failed: {answer.stderr.strip()}")
