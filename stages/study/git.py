"""The commits of the code and of the results, and files of the last commit."""

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

# The paths that decide the scores. The commit of the results is the last one that changed any of them.
CODE = ["params.yaml", "stages/fetch", "stages/split", "stages/recipes", "stages/evaluate"]


def code_commit() -> str | None:
    """The last commit that changed the code that decides the scores, with "-dirty" appended if it has local changes.

    Returns:
        The full hash, or None outside a git checkout or without git.
    """
    return _with_changes(_output("log", "-1", "--format=%H", "--", *CODE), CODE)


def head(*paths: str) -> str | None:
    """The commit that is checked out, with "-dirty" appended if files in `paths` have local changes.

    Args:
        *paths: files and folders.

    Returns:
        The full hash, or None outside a git checkout, before its first commit, or without git.
    """
    return _with_changes(_output("rev-parse", "--verify", "HEAD"), paths)


def committed(path: Path) -> bytes | None:
    """The content of a file in the last commit.

    Args:
        path: the file, relative to the current folder.

    Returns:
        The content, or None if the commit has no such file, outside a git checkout, or without git.
    """
    return _output("show", f"HEAD:./{path.as_posix()}")


def committed_files(folder: Path) -> list[Path]:
    """The files of a folder in the last commit, without its subfolders; none without a commit or without git."""
    names = _output("ls-tree", "-z", "--name-only", "HEAD", f"{folder.as_posix()}/") or b""
    return [Path(name) for name in names.decode(errors="replace").split("\0") if name]


def _with_changes(commit: bytes | None, paths: Sequence[str]) -> str | None:
    """A commit with "-dirty" appended if files in `paths` have local changes; None without a commit."""
    if not commit:
        return None
    return commit.decode().strip() + ("-dirty" if _output("status", "--porcelain", "--", *paths) else "")


def _output(*arguments: str) -> bytes | None:
    if shutil.which("git") is None:
        return None
    done = subprocess.run(["git", *arguments], capture_output=True, check=False)
    return done.stdout if done.returncode == 0 else None
