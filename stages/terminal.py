"""How a command ends, and what it keeps from the terminal."""

import argparse
import contextlib
import functools
import os
import sys
from collections.abc import Callable, Iterator

from stages.errors import StudyError


def command(main: Callable[[], None]) -> Callable[[], None]:
    """Let `main` end with one clear line and exit status 1 where a person's input or machine is at fault."""

    @functools.wraps(main)
    def run() -> None:
        try:
            main()
        except StudyError as error:
            sys.exit(f"error: {error}")
        except OSError as error:
            sys.exit(f"error: {error.strerror or error}: {error.filename or 'no file named'}")

    return run


def take_no_arguments(module: str, description: str | None) -> None:
    """Answer --help, and refuse any other argument, for a module that is run without."""
    argparse.ArgumentParser(
        prog=f"python -m {module}", description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()


@contextlib.contextmanager
def native_stderr_hidden() -> Iterator[None]:
    """Hide what native code prints while TensorFlow starts: a greeting in every process that no setting turns off."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
