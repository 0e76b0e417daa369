"""How commands start and end: errors on one line, signals, exit statuses, no passwords in outputs."""

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

from many_seeds.commands.redact import redact
from many_seeds.errors import UserError
from many_seeds.output import terminal

# The signals that end a command, of those that the system has: Windows has no SIGHUP. Background jobs of scripts ignore
# SIGINT.
ENDING = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
CLOSED_PIPE = 141  # exit status, as after SIGPIPE, which Windows does not have
RESEND_SECONDS = 0.05  # until a signal whose exception Python dropped is sent again
POLL_SECONDS = 0.5  # between checks whether the parent process is alive


def command(main: Callable[[], None]) -> Callable[[], None]:
    """Decorate a command so that errors in input and signals end it with one line.

    The exit status is 1 after such an error, 130 after a signal, and 141, without a message, if the output is a closed
    pipe. SIGTERM and SIGHUP, as sent by a batch system or a lost connection, act like Ctrl-C: unfinished work is
    cleaned up, and no process is left running. Errors, tracebacks and log records have no passwords.
    """

    @functools.wraps(main)
    def run() -> None:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):  # for encodings without − or …
                stream.reconfigure(errors="replace")
        for signum in ENDING:
            if signal.getsignal(signum) is signal.SIG_DFL:  # a signal that nohup ignores stays ignored
                signal.signal(signum, signal.default_int_handler)
        sys.unraisablehook = _interrupt_again
        _hide_passwords()
        try:
            try:
                main()
            finally:
                print(end="", flush=True)
        except UserError as error:
            sys.exit(terminal.for_stream(redact(f"error: {error}"), sys.stderr))
        except OSError as error:
            if isinstance(error, BrokenPipeError) and _output_is_closed():
                sys.exit(CLOSED_PIPE)
            sys.exit(redact(f"error: {error.strerror or error}: {error.filename or 'no file named'}"))
        except KeyboardInterrupt:
            print("stopped: what was finished is kept, and the same command goes on from there", file=sys.stderr)
            sys.exit(130)

    return run


def show(text: str, end: str = "\n") -> None:
    """Print a text at once, for a terminal with long lines wrapped and verdicts in colour."""
    print(terminal.for_stream(text, sys.stdout), end=end, flush=True)


def print_traceback(error: BaseException | None) -> None:
    """Print the traceback of an uncaught exception and of its causes, without passwords."""
    if error is not None:
        print(redact("".join(traceback.format_exception(error))), end="", file=sys.stderr, flush=True)


def _hide_passwords() -> None:
    """Remove passwords from tracebacks and log records, unless other hooks are installed."""
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
    """A log record of any library, without passwords."""

    def getMessage(self) -> str:  # noqa: N802  # the name is given by logging
        return redact(super().getMessage())

    @property
    def exc_text(self) -> str | None:
        """The traceback, which a formatter stores here before it prints it."""
        return self._traceback

    @exc_text.setter
    def exc_text(self, text: str | None) -> None:
        self._traceback = redact(text) if text else text


def _interrupt_again(dropped: "sys.UnraisableHookArgs") -> None:
    """Send a signal again if Python dropped its exception, as it does while an object is deleted."""
    if dropped.exc_type is KeyboardInterrupt and hasattr(signal, "pthread_kill"):  # not on Windows
        main = threading.main_thread().ident or 0
        handled = (signum for signum in ENDING if signal.getsignal(signum) is signal.default_int_handler)
        threading.Timer(RESEND_SECONDS, signal.pthread_kill, (main, next(handled, signal.SIGINT))).start()
    else:
        sys.__unraisablehook__(dropped)


def _output_is_closed() -> bool:
    """Whether standard output is a pipe without a reader; if so, buffered output is discarded."""
    if sys.stdout is None:
        return False
    if hasattr(select, "poll"):  # without it, as on Windows, no other pipe is expected
        pipe = select.poll()
        pipe.register(sys.stdout.fileno(), 0)
        if not pipe.poll(0):
            return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python reports an error when it exits
    return True


@contextlib.contextmanager
def signals_wait() -> Iterator[None]:
    """Delay the signals that end a command until the block ends, for work that must not be interrupted.

    For the main thread only.
    """
    received: list[int] = []
    handlers = {
        signum: signal.signal(signum, lambda signum, _: received.append(signum))
        for signum in ENDING
        if signal.getsignal(signum) is signal.default_int_handler
    }
    try:
        yield
    finally:
        for signum, handler in handlers.items():
            signal.signal(signum, handler)
        if received:
            signal.raise_signal(received[0])


def when_orphaned(act: Callable[[], object], parent: int, current: Callable[[], int | None] = os.getppid) -> None:
    """Call a function, in a thread, when the parent process has ended for any reason.

    Args:
        act: the function.
        parent: process id of the parent.
        current: a function that returns the process id of the present parent; by default that of this process.
    """

    def watch() -> None:
        while current() == parent:
            time.sleep(POLL_SECONDS)
        act()

    threading.Thread(target=watch, daemon=True).start()


def names(text: str) -> list[str]:
    """Parse names with commas between, as the type of an argument with the action `extend`.

    Raises:
        argparse.ArgumentTypeError: there are no names.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise argparse.ArgumentTypeError(f"expected names with commas between, received {text!r}")
    return names


class Parser(argparse.ArgumentParser):
    """A parser whose errors have no passwords of the arguments that they quote."""

    def error(self, message: str) -> NoReturn:
        super().error(redact(message))


def take_no_arguments(module: str, description: str | None) -> None:
    """Parse the command line of a module without arguments: --help is printed, others are refused."""
    Parser(
        prog=f"python -m {module}", description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
