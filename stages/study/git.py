"""What git knows of the results."""

import shutil
import subprocess

# What decides the scores; the commit that last touched one of them is the commit of the results.
CODE = ["params.yaml", "stages/fetch", "stages/split", "stages/recipes", "stages/evaluate"]


def code_commit() -> str | None:
    """The commit that last changed what decides the scores, "-dirty" after it where that has changes since.

    None outside a git checkout, and where git is not installed.
    """
    if shutil.which("git") is None:
        return None

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments, "--", *CODE], capture_output=True, text=True, check=False).stdout

    commit = git("log", "-1", "--format=%H").strip()
    return commit + ("-dirty" if git("status", "--porcelain") else "") if commit else None


def head(*paths: str) -> str | None:
    """The commit that is checked out, "-dirty" after it where files below `paths` have changes that it lacks.

    None outside a git checkout, before its first commit, and where git is not installed.
    """
    if shutil.which("git") is None:
        return None
    commit = subprocess.run(["git", "rev-parse", "--verify", "HEAD"], capture_output=True, text=True, check=False)
    if commit.returncode != 0:
        return None
    changes = ["git", "status", "--porcelain", "--", *paths]
    changed = subprocess.run(changes, capture_output=True, text=True, check=False).stdout
    return commit.stdout.strip() + ("-dirty" if changed else "")
