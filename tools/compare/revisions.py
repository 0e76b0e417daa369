"""Find a commit by a revision, and read its files."""

from collections.abc import Sequence
from pathlib import Path

from many_seeds.errors import UserError
from stages.study.records.results import Load
from tools import git


def find_commit(revision: str) -> str:
    """The full name of the commit of a revision.

    Args:
        revision: a commit, branch, tag or DVC experiment.

    Raises:
        UserError: the current folder is not a git checkout, or the revision is unknown or ambiguous.
    """
    try:
        git.output("rev-parse", "--git-dir")
    except UserError as error:
        raise UserError(f"this folder should be in a git checkout: {error}") from error
    found = git.find_output("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}")
    return _find_experiment(revision) if found is None else found.decode().strip()


def _find_experiment(name: str) -> str:
    """The commit of a DVC experiment, whose reference is below the commit that it started from."""
    listed = git.output("for-each-ref", "--format=%(objectname) %(refname)", "refs/exps").decode().splitlines()
    commits = [line.split()[0] for line in listed if line.rpartition("/")[2] == name]
    if len(commits) == 1:
        return commits[0]
    if commits:
        raise UserError(
            f"{len(commits)} experiments have the name {name!r}: use the commit of one of them, {', '.join(commits)}"
        )
    raise UserError(
        f"unknown revision {name!r}: expected a commit, branch, tag or DVC experiment of this checkout (`git fetch` "
        "downloads new ones, `git fetch --unshallow` the old ones that a shallow clone lacks)"
    )


def reader(commit: str, folders: Sequence[Path]) -> Load:
    """A function that reads files of a commit.

    Args:
        commit: the full name of the commit.
        folders: files and folders below the current folder, of which the function reads files.

    Returns:
        Path relative to the current folder → content, or None if the commit has no such file.
    """
    listed = git.output("ls-tree", "-r", "-z", "--name-only", commit, "--", *(path.as_posix() for path in folders))
    known = set(listed.decode().split("\0"))

    def read(path: Path) -> bytes | None:
        name = path.as_posix()
        return git.output("cat-file", "blob", f"{commit}:./{name}") if name in known else None

    return read
