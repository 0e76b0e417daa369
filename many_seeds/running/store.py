"""The scores of runs in a CSV file, to which several processes may append, and the claims of runs under way."""

import contextlib
import csv
import io
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from many_seeds.errors import UserError
from many_seeds.files import write_bytes
from many_seeds.ledger import identity
from many_seeds.output.messages import listed
from many_seeds.running.runs import COLUMNS, FACTS, Outcome, Run

try:
    import fcntl
except ImportError as error:
    raise UserError(
        "decide and many-seeds run need file locks of Linux or macOS, on Windows its Subsystem for Linux"
    ) from error

OK = "ok"
FAILED = "failed: "  # followed by the reason
BOM = "\ufeff"  # which a spreadsheet program writes before the header


class Store:
    """A CSV file with a row for each run: variant, seed, scores, seconds, host, status, commit.

    Rows are appended under a lock, so that several processes may share a store. A process that is killed leaves at most
    an incomplete last line, which the next one removes. The row of a failed run, whose scores are empty, is replaced
    when the run succeeds.

    Attributes:
        path: the file; it is created with the first row.

    Raises:
        UserError: the path is a folder, or the file has other columns, a row without variant or seed, or two rows with
            scores of the same run.
    """

    def __init__(self, path: Path) -> None:
        if path.is_dir():
            raise UserError(f"the store should be a CSV file, received the folder {str(path)!r}")
        self.path = path
        self._locks = path.with_name(f".{path.name}.locks")
        self._header: list[str] = []
        self._rows: dict[Run, dict[str, str]] = {}
        self._place = 0, 0  # inode, and the number of bytes that were read
        self.refresh()

    def refresh(self) -> None:
        """Read what other processes have written."""
        if self.path.exists():
            with self.locked():
                self._read()

    def succeeded(self, run: Run) -> bool:
        return run in self._rows and self._rows[run]["status"] == OK

    def failures(self) -> dict[Run, str]:
        """Run → why it failed, of all runs that have not succeeded since."""
        rows = self._rows.items()
        return {run: row["status"].removeprefix(FAILED) for run, row in rows if row["status"] != OK}

    def missing(self, variant: str, seeds: int) -> list[Run]:
        """The runs of a variant without a score, among the seeds 0 to `seeds` − 1."""
        return [run for seed in range(seeds) if not self.succeeded(run := Run(variant, seed))]

    def seeds(self, variant: str) -> int:
        """The number of seeds of a variant up to the last one with a score."""
        return max((1 + run.seed for run in self._rows if run.variant == variant and self.succeeded(run)), default=0)

    def variants(self) -> list[str]:
        """The variants that have a score."""
        return list(dict.fromkeys(run.variant for run in self._rows if self.succeeded(run)))

    def scores(self, variant: str, score: str) -> np.ndarray:
        """The scores of a variant, float [seeds], of the seeds from 0 up to the first one without a score.

        Raises:
            UserError: a row has no such score, or it is not finite.
        """
        found: list[float] = []
        while self.succeeded(run := Run(variant, len(found))):
            text = self._rows[run].get(score, "")
            value = _number(text)
            if value is None:
                raise UserError(
                    f"{self.path} should have a finite number as {score} of {run}, received {text!r}: name a score "
                    "that every run has, or another store"
                )
            found.append(value)
        return np.array(found)

    def mean_seconds(self) -> dict[str, float]:
        """Variant → the mean duration of its runs; variants without runs are left out."""
        durations: dict[str, list[float]] = {}
        for run, row in self._rows.items():
            if row["status"] == OK and row["seconds"]:
                durations.setdefault(run.variant, []).append(float(row["seconds"]))
        return {name: sum(of) / len(of) for name, of in durations.items()}

    def commits(self, variants: Iterable[str]) -> list[str]:
        """The commits with which variants were trained."""
        names = set(variants)
        found = {row["commit"]: None for run, row in self._rows.items() if run.variant in names and row["commit"]}
        return list(found)

    def add(self, run: Run, outcome: Outcome, commit: str) -> None:
        """Append the row of a run, unless another process has added its scores meanwhile.

        Raises:
            UserError: the file can't be written, or was damaged meanwhile.
        """
        status = f"{FAILED}{' '.join(outcome.reason.split())}" if outcome.reason else OK
        facts = {"seconds": f"{outcome.seconds:.3f}", "host": outcome.host, "status": status, "commit": commit}
        scores = {name: repr(value) for name, value in outcome.scores.items()}
        row = {"variant": run.variant, "seed": str(run.seed), **scores, **facts}
        with self.locked():
            self._read()
            if self.succeeded(run):
                return
            header = _merged(self._header, list(scores))
            replaced = run in self._rows
            self._rows[run] = row
            if replaced or header != self._header:
                self._header = header
                write_bytes(self.path, _text([header, *self._cells(header)]).encode())
            else:
                self._append(_text([[row.get(name, "") for name in header]]).encode())
            self._remember()

    def _append(self, line: bytes) -> None:
        try:
            with self.path.open("ab") as file:
                file.write(line)
        except OSError as error:
            raise UserError(
                f"{self.path} can't be written: {error.strerror}. The scores before are kept; fix the problem and run "
                "the same call again"
            ) from error

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from reading and writing the store and the files beside it."""
        with _created(self._locks / "store") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def claim(self, run: Run) -> "Claim | None":
        """Claim a run, so that no other process trains it; None if another one has it."""
        return Claim.take(self._locks / identity(run.variant, str(run.seed))[:20])

    def _read(self) -> None:
        """Read the rows that are new; all if the file was replaced. The store is locked."""
        try:
            file = self.path.open("r+b")
        except FileNotFoundError:
            self._header, self._rows, self._place = [], {}, (0, 0)
            return
        with file:
            inode, done = self._place
            if os.fstat(file.fileno()).st_ino != inode or os.fstat(file.fileno()).st_size < done:
                self._header, self._rows, done = [], {}, 0
            file.seek(done)
            content = file.read()
            whole = content[: content.rfind(b"\n") + 1]
            self._parse(whole)
            if rest := content[len(whole) :]:  # a process was killed while it wrote, or an editor has left it out
                if self._is_complete(rest):
                    file.write(b"\n")
                    self._parse(rest)
                else:
                    file.truncate(done + len(whole))
        self._remember()

    def _is_complete(self, line: bytes) -> bool:
        cells = next(csv.reader([line.decode(errors="replace")]))
        return bool(self._header) and len(cells) == len(self._header)

    def _parse(self, content: bytes) -> None:
        lines = csv.reader(io.StringIO(content.decode(errors="replace").removeprefix(BOM), newline=""))
        for cells in lines:
            if not self._header:
                self._header = self._checked_header(cells)
            elif cells:
                row = dict(zip(self._header, cells, strict=False))
                if len(row) < len(self._header) or not _is_valid(row):
                    raise UserError(
                        f"{self.path} should have the columns {listed(self._header)} in every row, received "
                        f"{','.join(cells)!r}: repair or remove this row"
                    )
                run = Run(row["variant"], int(row["seed"]))
                if self.succeeded(run):
                    raise UserError(f"{self.path} has two rows of {run}: remove the one that was made later")
                self._rows[run] = row

    def _checked_header(self, cells: list[str]) -> list[str]:
        if missing := [name for name in (*COLUMNS, *FACTS) if name not in cells]:
            raise UserError(
                f"{self.path} should be a store, with the columns {listed([*COLUMNS, *FACTS])}; missing: "
                f"{listed(missing)}. Name a file that does not exist yet"
            )
        return cells

    def _cells(self, header: Sequence[str]) -> list[list[str]]:
        return [[row.get(name, "") for name in header] for row in self._rows.values()]

    def _remember(self) -> None:
        found = self.path.stat()
        self._place = found.st_ino, found.st_size


class Claim:
    """A run that this process trains. Its lock ends with the process, however that ends."""

    def __init__(self, path: Path, file: io.BufferedRandom) -> None:
        self._path = path
        self._file = file

    @classmethod
    def take(cls, path: Path) -> "Claim | None":
        """Lock a file; None if another process, or another claim of this one, has locked it."""
        while True:
            file = _created(path)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.close()
                return None
            with contextlib.suppress(FileNotFoundError):
                if os.fstat(file.fileno()).st_ino == path.stat().st_ino:
                    return cls(path, file)
            file.close()  # the one who had it has removed the file

    def release(self) -> None:
        self._path.unlink(missing_ok=True)
        self._file.close()


def _created(path: Path) -> io.BufferedRandom:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("a+b")
    except OSError as error:
        raise UserError(
            f"{path} can't be written: {error.strerror}. Expected a folder of this machine or a shared one with locks"
        ) from error


def _is_valid(row: Mapping[str, str]) -> bool:
    """Whether a row has a variant, a seed, and seconds if it has any."""
    seconds = row["seconds"]
    return bool(row["variant"]) and row["seed"].isdecimal() and (not seconds or _number(seconds) is not None)


def _number(text: str) -> float | None:
    """A finite number; None for another text."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _merged(header: Sequence[str], scores: Iterable[str]) -> list[str]:
    """The columns of a store with further scores."""
    known = [name for name in header if name not in (*COLUMNS, *FACTS)]
    return [*COLUMNS, *dict.fromkeys([*known, *scores]), *FACTS]


def _text(rows: Iterable[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
