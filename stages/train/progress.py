"""The progress of training on the terminal or in the log."""

import sys
import threading
import time
from collections.abc import Callable

from tqdm import tqdm

from many_seeds.commands.redact import redact
from many_seeds.output.messages import counted
from stages.train.run import Trained

LOG_SECONDS = 60  # between two lines about the runs under way in a log


class Progress:
    """A progress bar on a terminal; elsewhere a line for every finished run, and one a minute for those under way."""

    def __init__(self, total: int, under_way: Callable[[], str]) -> None:
        """Create the bar.

        Args:
            total: the number of runs.
            under_way: a function that describes the runs under way.
        """
        self._total, self._done, self._under_way = total, 0, under_way
        self._terminal = sys.stderr.isatty()
        self._bar = tqdm(total=total, unit="run", disable=not self._terminal, file=sys.stderr)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Progress":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._bar.close()

    def write(self, line: str) -> None:
        """Print a line, without passwords, above the bar."""
        tqdm.write(redact(line), file=sys.stderr)

    def finish(self, trained: Trained) -> None:
        """Count and report a finished run, or one that diverged."""
        self._done += 1
        self._bar.update()
        facts, name = trained.facts, f"[{self._done}/{self._total}] {trained.run.name}"
        if diverged := facts.get("diverged"):
            self.write(f"{name}: diverged: {diverged['reason']}; it counts as a run that predicts the largest class")
            return
        parts = [f"{name}: {facts['seconds']:.0f} s"]
        if facts.get("epochs") is not None:
            parts.append(counted(facts["epochs"], "epoch"))
        if facts.get("dev_accuracy") is not None:
            parts.append(f"validation accuracy {facts['dev_accuracy']:.4f}")
        self.write(", ".join(parts))

    def _watch(self) -> None:
        last = time.monotonic()
        while not self._stop.wait(0.5):
            if not self._terminal and time.monotonic() - last < LOG_SECONDS:
                continue
            last = time.monotonic()
            under_way = self._under_way()
            if self._terminal:
                self._bar.set_postfix_str(under_way)
            elif under_way:
                self.write(f"under way: {under_way}")
