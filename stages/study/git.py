"""The commits of the code and of the results, and files of the last commit."""

import shutil
import subprocess
from pathlib import Path

# The paths that decide the scores. The commit of the results is the last one that changed any of them.
CODE = ["params.yaml", "stages/fetch", "stages/split", "stages/recipes", "stages/evaluate"]


def code_commit() -> str | None:
    """The last commit that changed the code that decides the scores, with "-dirty" appended if it has local changes.

    Returns:
        The full hash, or None outside a git checkout or without git.
    """
    if shutil.which("git") is None:
        return None

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments, "--", *CODE], capture_output=True, text=True, check=False).stdout

    commit = git("log", "-1", "--format=%H").strip()
    return commit + ("-dirty" if git("status", "--porcelain") else "") if commit else None


def head(*paths: str) -> str | None:
    """The commit that is checked out, with "-dirty" appended if files in `paths` have local changes.

    Args:
        *paths: files and folders.

    Returns:
        The full hash, or None outside a git checkout, before its first commit, or without git.
    """
    if shutil.which("git") is None:
        return None
    commit = subprocess.run(["git", "rev-parse", "--verify", "HEAD"], capture_output=True, text=True, check=False)
    if commit.returncode != 0:
        return None
    changes = ["git", "status", "--porcelain", "--", *paths]
    changed = subprocess.run(changes, capture_output=True, text=True, check=False).stdout
    return commit.stdout.strip() + ("-dirty" if changed else "")


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


def _output(*arguments: str) -> bytes | None:
    if shutil.which("git") is None:
        return None
    done = subprocess.run(["git", *arguments], capture_output=True, check=False)
    return done.stdout if done.returncode == 0 else None
