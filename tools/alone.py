"""Only one process at a time runs a command in a checkout."""

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

from many_seeds.errors import UserError

FOLDER = Path("build")


@contextlib.contextmanager
def alone(command: str) -> Iterator[None]:
    """Exclude other processes with the same command: each would delete what only the other one knows.

    Args:
        command: the target of the Makefile, such as settle.

    Raises:
        UserError: there is one.
    """
    path = FOLDER / f"{command}.lock"
    path.parent.mkdir(exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f"another `make {command}` is running in this folder: wait until it ends, or end it. Its finished runs "
                "are kept"
            ) from error
        yield
