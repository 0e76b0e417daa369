"""Run git in the current folder."""

import subprocess

from many_seeds.errors import UserError


def find_output(*arguments: str) -> bytes | None:
    """The output of a git command; None if the command fails.

    Raises:
        UserError: git is not installed.
    """
    done = _run(*arguments)
    return done.stdout if done.returncode == 0 else None


def output(*arguments: str) -> bytes:
    """The output of a git command.

    Raises:
        UserError: git is not installed, or the command fails.
    """
    done = _run(*arguments)
    if done.returncode != 0:
        error = done.stderr.decode(errors="replace").strip()
        raise UserError(f"`git {' '.join(arguments)}` failed: {error}")
    return done.stdout


def _run(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(["git", *arguments], capture_output=True, check=False)
    except FileNotFoundError:
        raise UserError("this command needs git, which is not installed") from None
