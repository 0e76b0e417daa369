"""The last commit with version 1: its files, and the packages that may have trained its runs."""

import contextlib
import functools
import io
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from many_seeds.errors import UserError
from stages.study import files
from stages.study.provenance import environments, families
from stages.study.provenance.environments import LOCKED
from tools import git

PIPELINE = Path("dvc.yaml")


@dataclass(frozen=True)
class Packages:
    """Versions of packages that may have trained a run.

    Attributes:
        versions: name → version, as in the key of a run.
        evaluating: the same with TensorFlow, which evaluates the runs that a GPU has trained with JAX.
        executor: the digest of the executor's code if it is a part of the key, else None.
        source: where the versions are from.
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
        packages: the packages that may have trained its runs.
    """

    commit: str
    folder: Path
    packages: list[Packages]

    def code_files(self, pattern: str) -> list[Path]:
        return sorted((self.folder / "stages").glob(pattern))

    def code_digest(self, family: str) -> str:
        """The digest of a family's code in the form of version 1."""
        return families.source_digest(
            [*self.code_files("recipes/shared/*.py"), *self.code_files(f"recipes/{family}.py")]
        )


def find_commit(revision: str | None) -> str:
    """The full name of a commit with version 1.

    Args:
        revision: the commit; None for the newest one.

    Raises:
        UserError: the commit has version 2, or no commit has version 1.
    """
    if revision is None:
        return _newest_commit()
    commit = _resolve(revision)
    if not _is_version_1(commit):
        raise UserError(
            f"--from should name the last commit of this study with version 1; received {revision}, whose {PIPELINE} "
            "is missing or has the stage `code` of version 2"
        )
    return commit


def _resolve(revision: str) -> str:
    """The full name of a commit.

    Raises:
        UserError: there is no such commit, or no git repository.
    """
    found = git.find_output("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}")
    if found is None:
        raise UserError(
            f"the migration needs a git repository with a commit of this study with version 1, received no commit "
            f"{revision}. Without git, put the files of version 1 back, run `git init`, `git add --all` and "
            "`git commit -m 'Version 1'`, then update the code and migrate"
        )
    return found.decode().strip()


def _newest_commit() -> str:
    head = _resolve("HEAD")
    if _is_version_1(head):
        return head
    # First parents only: the commits of the study itself, if version 2 was merged into it.
    for changed in git.output("rev-list", "--first-parent", "HEAD", "--", str(PIPELINE)).decode().split():
        before = git.output("rev-list", "--max-count=2", "--first-parent", changed).decode().split()[1:]
        if before and _is_version_1(before[0]):
            return before[0]
    raise UserError(
        f"no commit before this one has the {PIPELINE} of version 1: name the last such commit with --from (in a "
        "shallow clone, `git fetch --unshallow` downloads the missing commits)"
    )


def _is_version_1(commit: str) -> bool:
    """Whether a commit has a pipeline without the stage `code`."""
    content = git.find_output("show", f"{commit}:./{PIPELINE}")
    if content is None:
        return False
    pipeline = files.yaml_values(content.decode(), f"{PIPELINE} of {commit[:7]}") or {}
    return "stages" in pipeline and "code" not in pipeline["stages"]


@contextlib.contextmanager
def extracted(commit: str) -> Iterator[Version1]:
    """The files of a commit, in a temporary folder.

    Args:
        commit: the full name of the commit.
    """
    with tempfile.TemporaryDirectory(prefix="many-seeds-migrate-") as parent:
        folder = Path(parent) / "study"
        with tarfile.open(fileobj=io.BytesIO(git.output("archive", "--format=tar", commit))) as archive:
            archive.extractall(folder, filter="tar")
        (folder / ".dvc").mkdir(exist_ok=True)
        (folder / ".dvc/config.local").write_text("[core]\n    no_scm = true\n", encoding="utf-8")  # DVC without git
        old = Version1(commit, folder, [])
        old.packages.extend(_known_packages(old))
        yield old


def _known_packages(old: Version1) -> list[Packages]:
    """The packages of every requirements.lock up to the commit, newest first, and the installed ones."""
    batched_code = old.code_files("train/executors/lanes/*.py")
    batched = [families.source_digest(batched_code)] if batched_code else []
    return [
        Packages(versions, by_backend.get("tensorflow", versions), executor, source)
        for source, by_backend in _known_versions(old).items()
        for backend, versions in by_backend.items()
        for executor in ([None, *batched] if backend == "jax" else [None])
    ]


def _known_versions(old: Version1) -> dict[str, dict[str, dict[str, str]]]:
    """Source → Keras backend → versions."""
    found: dict[str, dict[str, dict[str, str]]] = {}
    for commit in git.output("log", "--format=%H", old.commit, "--", str(LOCKED)).decode().split():
        path = old.folder / f"{commit}.lock"
        content = git.find_output("show", f"{commit}:./{LOCKED}")
        if content is not None:  # the commit may delete it
            path.write_bytes(content)
        found[f"{LOCKED} of {commit[:7]}"] = _by_backend(functools.partial(environments.locked_versions, path))
    found["the installed packages"] = _by_backend(environments.installed_versions)
    return found


def _by_backend(versions: Callable[[str], dict[str, str]]) -> dict[str, dict[str, str]]:
    """Keras backend → versions, for the backends that are known."""
    found = {}
    for backend in environments.BACKEND_PACKAGES:
        with contextlib.suppress(UserError):
            found[backend] = versions(backend)
    return found
