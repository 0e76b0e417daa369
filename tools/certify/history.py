"""Find the commit that has the code of an environment, and check it out with its packages."""

import contextlib
import io
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from many_seeds.errors import UserError
from stages.recipes.shared.training import backend
from stages.study import files
from stages.study.provenance import environments, families
from stages.study.provenance.environments import LOCKED, SCORING, Environment
from tools import git

PROJECT = families.FOLDER.parents[1]
RELATIVE_SCORING = [path.relative_to(PROJECT) for path in SCORING]
RECIPES = families.FOLDER.relative_to(PROJECT)
CHECKOUT = "code-"  # the prefix of folders with checkouts
CodeDigest = Callable[[str, Path], str | None]  # of a family, and a folder with recipes
# Prints the digest in the form that a commit had at its time.
OWN_DIGEST = """
import sys
try:
    from stages.study.provenance import families
except ImportError:  # as in version 1
    from stages import families
print(families.code_digest(sys.argv[1]))
"""


def find_commit(family: str, train: Environment, evaluate: Environment | None) -> str | None:
    """The newest commit with the code of these environments, and with their packages unless they are installed.

    Args:
        family: the family of models.
        train: the environment of training.
        evaluate: the environment of evaluation; None if no evaluation is needed.

    Returns:
        The full name of the commit; None if there is none.
    """
    if evaluate is not None and evaluate.versions != train.versions:
        return None
    commits = list(_commits())
    # A commit's own digest needs a process for each commit: it is tried only if no commit has the present form.
    for digest in (_code_digest, _own_code_digest):
        for commit in commits:
            with _extracted(commit) as folder:
                if folder is not None and _has_environments(folder, family, train, evaluate, digest):
                    return commit
    return None


def _has_environments(
    folder: Path, family: str, train: Environment, evaluate: Environment | None, digest: CodeDigest
) -> bool:
    recipes = folder / RECIPES
    if not (recipes / f"{family}.py").exists() or digest(family, recipes) != train.code:
        return False
    if evaluate is not None and _scoring_digest(folder) != evaluate.code:
        return False
    return train.versions in (environments.installed("train", family).versions, _locked_versions(folder))


def _commits() -> Iterator[str]:
    """The last commit of each state of the files that decide bits, newest first; nothing outside a git checkout.

    A commit that changes these files is yielded, and its parent, which has the state before the change together with
    the newest state of all other files.
    """
    paths = [str(RECIPES), str(LOCKED), *map(str, RELATIVE_SCORING)]
    try:
        lines = git.output("log", "--format=%H %P", "--", *paths).decode().splitlines()
        head = git.output("rev-parse", "HEAD").decode().strip()
    except UserError:
        return
    changing = [commit for line in lines for commit in line.split()[:2]]  # the commit and its first parent
    states: set[bytes | None] = {None}
    for commit in [head, *changing] if lines else []:
        state = git.find_output("ls-tree", commit, "--", *paths)  # None for a parent that a shallow clone lacks
        if state not in states:
            states.add(state)
            yield commit


@contextlib.contextmanager
def _extracted(commit: str) -> Iterator[Path | None]:
    """A temporary folder with the code of a commit and its requirements.lock; None if the commit lacks them."""
    names = git.output("ls-tree", "--name-only", commit).decode().splitlines()
    paths = [name for name in names if name in ("many_seeds", "stages", str(LOCKED))]
    if not {"stages", str(LOCKED)} <= {*paths}:
        yield None
        return
    content = io.BytesIO(git.output("archive", "--format=tar", commit, *paths))
    with tempfile.TemporaryDirectory() as folder, tarfile.open(fileobj=content) as archive:
        archive.extractall(folder, filter="data")
        yield Path(folder)


def _code_digest(family: str, recipes: Path) -> str | None:
    """The digest of a family's code in the present form; None if the commit has another structure of recipes."""
    with contextlib.suppress(UserError):
        return families.code_digest(family, recipes)
    return None


def _own_code_digest(family: str, recipes: Path) -> str:
    """The digest of a family's code, computed by the code of its own commit."""
    command = [sys.executable, "-c", OWN_DIGEST, family]
    folder = recipes.parents[len(RECIPES.parts) - 1]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False).stdout.strip()


def _scoring_digest(folder: Path) -> str | None:
    """The digest of the code that evaluates models; None if a file is missing."""
    paths = [folder / path for path in RELATIVE_SCORING]
    return families.definitions_digest(paths) if all(path.exists() for path in paths) else None


def _locked_versions(folder: Path) -> dict[str, str] | None:
    try:
        return environments.locked_versions(folder / LOCKED)
    except UserError:
        return None


@contextlib.contextmanager
def checkout(commit: str, parent: Path) -> Iterator[Path]:
    """A worktree of a commit with the data of this study, removed afterwards.

    Args:
        commit: the commit.
        parent: the folder of the worktree; worktrees of killed processes in it are removed.

    Yields:
        The folder of the study in it.

    Raises:
        UserError: git fails.
    """
    for folder in parent.glob(f"{CHECKOUT}*"):
        _remove(folder)
    parent.mkdir(parents=True, exist_ok=True)
    folder = parent / f"{CHECKOUT}{commit[:12]}"
    try:
        git.output("worktree", "add", "--quiet", "--detach", str(folder.resolve()), commit)
        study = folder.resolve() / git.output("rev-parse", "--show-prefix").decode().strip()
        (study / "data").symlink_to(Path("data").resolve(), target_is_directory=True)
        yield study
    finally:
        _remove(folder)


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    git.output("worktree", "prune")


def python_of(environment: Environment, study: Path, folder: Path) -> str:
    """A Python with the packages of an environment: the running one, or that of a virtual environment.

    Args:
        environment: the environment.
        study: a checkout whose requirements.lock has these packages.
        folder: the folder of virtual environments, which are kept.

    Returns:
        The path of the program.

    Raises:
        UserError: the packages can't be installed.
    """
    if environment.versions == environments.installed_versions(backend()):
        return sys.executable
    lock = (study / LOCKED).read_text(encoding="utf-8")
    place = folder / f"env-{files.digest(lock, sys.version)[:12]}"
    python = place.resolve() / "bin" / "python"
    if not (place / "ready").exists():
        print(f"installing the packages of {LOCKED} of that commit into {place}", flush=True)
        shutil.rmtree(place, ignore_errors=True)
        _install(study, place, python)
        (place / "ready").touch()
    return str(python)


def _install(study: Path, place: Path, python: Path) -> None:
    """Make a virtual environment with the packages of a checkout, by uv if it is installed, else by pip."""
    uv = Path(sys.executable).with_name("uv")
    if uv.exists():
        make = [sys.executable, "-m", "venv", "--without-pip", str(place)]
        install = [str(uv), "pip", "install", "--quiet", "--system-certs", "--python", str(python)]
    else:
        make = [sys.executable, "-m", "venv", str(place)]
        install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    _run(make)
    _run([*install, "-c", str(LOCKED), ".[cpu,pipeline]"], study)


def _run(command: list[str], folder: Path | None = None) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise UserError(f"`{' '.join(command)}` failed: {done.stderr.strip()}")
