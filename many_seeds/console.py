"""How a command starts and ends: errors in a line, signals, exit statuses, no password on the screen."""

import argparse
import contextlib
import functools
import io
import logging
import os
import select
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from typing import NoReturn

from many_seeds.errors import UserError
from many_seeds.redact import redact

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # the first is ignored by what a script starts with &
AGAIN_SECONDS = 0.05  # until a signal that Python dropped comes once more
ALIVE_SECONDS = 0.5  # between two looks of a process at the one that started it


def command(main: Callable[[], None]) -> Callable[[], None]:
    """Let `main` end with one clear line where a person's input or machine is at fault, or a signal stops it.

    The exit status is 1, or 130 after a signal, or 141, without a message, where its output is a closed pipe.
    SIGTERM and SIGHUP, which a batch system or a lost connection sends, end it like Ctrl-C: what is under way is
    cleared away, and no process stays behind. No error, traceback or log record shows a password.
    """

    @functools.wraps(main)
    def run() -> None:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):  # a terminal or file that can't show a − or … gets a mark for it
                stream.reconfigure(errors="replace")
        for signum in ENDING:
            if signal.getsignal(signum) is signal.SIG_DFL:  # nohup has it ignored
                signal.signal(signum, signal.default_int_handler)
        sys.unraisablehook = _interrupt_again
        _hide_passwords()
        try:
            try:
                main()
            finally:
                print(end="", flush=True)
        except UserError as error:
            sys.exit(redact(f"error: {error}"))
        except OSError as error:
            if isinstance(error, BrokenPipeError) and _output_is_closed():
                sys.exit(128 + signal.SIGPIPE)
            sys.exit(redact(f"error: {error.strerror or error}: {error.filename or 'no file named'}"))
        except KeyboardInterrupt:
            print("stopped: what was finished is kept, and the same command goes on from there", file=sys.stderr)
            sys.exit(130)

    return run


def print_traceback(error: BaseException | None) -> None:
    """Print the traceback of an uncaught exception and of its causes, without passwords."""
    if error is not None:
        print(redact("".join(traceback.format_exception(error))), end="", file=sys.stderr, flush=True)


def _hide_passwords() -> None:
    """Keep passwords out of tracebacks and log records, unless the hooks of Python are replaced already."""
    if sys.excepthook is sys.__excepthook__:
        sys.excepthook = lambda _, error, __: print_traceback(error)
    if threading.excepthook is threading.__excepthook__:
        threading.excepthook = _print_of_thread
    if logging.getLogRecordFactory() is logging.LogRecord:
        logging.setLogRecordFactory(_Record)


def _print_of_thread(ended: threading.ExceptHookArgs) -> None:
    if ended.exc_type is not SystemExit:
        print(f"Exception in thread {ended.thread.name if ended.thread else 'unknown'}:", file=sys.stderr)
        print_traceback(ended.exc_value)


class _Record(logging.LogRecord):
    """What a library logs, such as an error after which it tries again, but for passwords."""

    def getMessage(self) -> str:  # noqa: N802  # the name that logging calls
        return redact(super().getMessage())

    @property
    def exc_text(self) -> str | None:
        """The traceback, which a formatter writes here before it shows it."""
        return self._traceback

    @exc_text.setter
    def exc_text(self, text: str | None) -> None:
        self._traceback = redact(text) if text else text


def _interrupt_again(dropped: "sys.UnraisableHookArgs") -> None:
    """Let a signal come once more where Python drops its exception, as while an object is deleted."""
    if dropped.exc_type is KeyboardInterrupt:
        main = threading.main_thread().ident or 0
        heard = (signum for signum in ENDING if signal.getsignal(signum) is signal.default_int_handler)
        threading.Timer(AGAIN_SECONDS, signal.pthread_kill, (main, next(heard, signal.SIGINT))).start()
    else:
        sys.__unraisablehook__(dropped)


def _output_is_closed() -> bool:
    """Whether standard output is a pipe without a reader; what it still holds is then thrown away."""
    if sys.stdout is None:
        return False
    pipe = select.poll()
    pipe.register(sys.stdout.fileno(), 0)
    if not pipe.poll(0):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python complains at its end
    return True


@contextlib.contextmanager
def signals_wait() -> Iterator[None]:
    """Let the signals that end a command come after this: for what can't be left half done. In the main thread."""
    came: list[int] = []
    handlers = {
        signum: signal.signal(signum, lambda signum, _: came.append(signum))
        for signum in ENDING
        if signal.getsignal(signum) is signal.default_int_handler
    }
    try:
        yield
    finally:
        for signum, handler in handlers.items():
            signal.signal(signum, handler)
        if came:
            signal.raise_signal(came[0])


def when_orphaned(act: Callable[[], object], parent: int, current: Callable[[], int | None] = os.getppid) -> None:
    """Call `act`, in a thread, once the process `parent`, which started this one, has ended, in whatever way it did.

    `current` says who is the parent now: by default of this process.
    """

    def watch() -> None:
        while current() == parent:
            time.sleep(ALIVE_SECONDS)
        act()

    threading.Thread(target=watch, daemon=True).start()


def names(text: str) -> list[str]:
    """Names with commas between, as the type of an argument with the action `extend`.

    Raises:
        argparse.ArgumentTypeError: there is none.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise argparse.ArgumentTypeError(f"expected names with commas between, received {text!r}")
    return names


class Parser(argparse.ArgumentParser):
    """One whose errors, which quote what they received, show no password."""

    def error(self, message: str) -> NoReturn:
        super().error(redact(message))


def take_no_arguments(module: str, description: str | None) -> None:
    """Answer --help, and refuse any other argument, for a module that is run without."""
    Parser(
        prog=f"python -m {module}", description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
