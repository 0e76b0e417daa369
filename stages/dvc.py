"""The program `dvc` of the environment that this runs in."""

import sys
from pathlib import Path

from stages.errors import StudyError


def command(*arguments: str) -> list[str]:
    """What runs `dvc` with these arguments.

    Raises:
        StudyError: it is not installed.
    """
    program = Path(sys.executable).with_name("dvc")
    if not program.exists():
        raise StudyError(
            f"this needs DVC, expected as {program}: install this project with its extra `pipeline`, as `make setup` "
            "does"
        )
    return [str(program), *arguments]
