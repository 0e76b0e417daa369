"""Train a batch of runs on workers: claims, second attempts, time limits, and what is printed about each run."""

import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, replace

from many_seeds.errors import UserError
from many_seeds.output.messages import counted, duration
from many_seeds.running.runs import Outcome, Run, Worker
from many_seeds.running.store import Claim, Store

ATTEMPTS = 2  # of a run that fails, with the same seed
MOST_FAILURES = 5  # of a variant in a batch, after which no more runs of it start
POLL_SECONDS = 0.2  # between looks at runs of other processes, and at time limits


@dataclass
class _Job:
    """A run under way."""

    run: Run
    claim: Claim
    worker: Worker
    attempt: int
    started: float
    overdue: bool = False


class Pool:
    """Workers that train runs and write their scores to a store.

    Args:
        workers: each trains one run at a time.
        store: of the scores.
        score: the score by which variants are compared.
        timeout: the time limit of a run in seconds; None for no limit.
        commit: the commit of the code.
        show: prints a line.
    """

    def __init__(
        self,
        workers: Sequence[Worker],
        store: Store,
        score: str,
        timeout: float | None,
        commit: str,
        show: Callable[[str], None],
    ) -> None:
        self.workers = workers
        self._store = store
        self._score = score
        self._timeout = timeout
        self._commit = commit
        self._show = show
        self._idle = list(workers)
        self._busy: dict[Future[Outcome], _Job] = {}
        self._left: list[Run] = []
        self._failures = Counter[str]()
        self._late = False

    def close(self) -> None:
        for worker in self.workers:
            worker.close()

    def train(self, runs: Sequence[Run], deadline: float) -> bool:
        """Train runs, except those that another process finishes; those that fail are recorded as failed.

        Args:
            runs: in the order in which to start them.
            deadline: a run is left out if it is expected to end after this value of `time.monotonic()`: by the mean
                duration of its variant, else of the others; while none is known, it starts. Second attempts start.

        Returns:
            Whether no run was left out for lack of time.

        Raises:
            UserError: the store can't be written, or the cluster has gone.
        """
        waiting, self._left, self._failures, self._late = deque(runs), list(runs), Counter(), False
        try:
            while waiting or self._busy:
                if waiting and time.monotonic() >= deadline:
                    waiting.clear()  # also those that another process has claimed
                    self._late = True
                self._start(waiting, deadline)
                if self._busy:
                    self._wait(one_of_others=bool(waiting) and bool(self._idle))
                elif waiting:
                    time.sleep(POLL_SECONDS)
        except BaseException:
            for worker in self.workers:  # all of them: one may have started a run that is not registered yet
                worker.kill()
            raise
        finally:
            self._stop()
        return not self._late

    def _start(self, waiting: deque[Run], deadline: float) -> None:
        """Start runs on idle workers; those that another process has claimed stay waiting."""
        for _ in range(len(waiting)):
            if not self._idle:
                return
            run = waiting.popleft()
            if self._failures[run.variant] >= MOST_FAILURES:
                self._left.remove(run)
                continue
            claim = self._store.claim(run)
            if claim is None:
                waiting.append(run)
                continue
            self._store.refresh()
            if self._store.succeeded(run):
                claim.release()
                self._left.remove(run)
                self._show(f"{run}: finished by another process")
            elif time.monotonic() + _expected_seconds(run, self._store.mean_seconds()) > deadline:
                claim.release()
                self._left.remove(run)
                self._late = True
            else:
                self._submit(_Job(run, claim, self._idle.pop(0), 1, 0.0))

    def _submit(self, job: _Job) -> None:
        job.started = time.monotonic()
        self._busy[job.worker.start(job.run)] = job

    def _wait(self, *, one_of_others: bool) -> None:
        """Handle the runs that have ended, and kill those that take too long."""
        seconds = POLL_SECONDS if one_of_others or self._timeout is not None else None
        done, _ = wait(self._busy, seconds, FIRST_COMPLETED)
        for future in done:
            if future.cancelled():
                raise UserError(
                    f"the cluster has cancelled {self._busy[future].run}: its scheduler has ended. The scores before "
                    "are kept; start it, and run the same call again"
                )
            self._finish(self._busy.pop(future), future)
        for job in self._busy.values():
            if not job.worker.is_ready():
                job.started = time.monotonic()
            if self._timeout is not None and not job.overdue and time.monotonic() > job.started + self._timeout:
                job.overdue = True
                job.worker.kill()

    def _finish(self, job: _Job, future: "Future[Outcome]") -> None:
        outcome = self._outcome(job, future)
        if outcome.reason:
            again = outcome.retry and job.attempt < ATTEMPTS
            self._show(
                f"{job.run}: failed: {outcome.reason}" + ("; second attempt with the same seed" if again else "")
            )
            if outcome.output:
                self._show("\n".join(f"  | {line}" for line in outcome.output.splitlines()))
            if again:
                self._submit(replace(job, attempt=job.attempt + 1, overdue=False))
                return
        self._store.add(job.run, outcome, self._commit)
        job.claim.release()
        self._idle.append(job.worker)
        self._left.remove(job.run)
        if outcome.reason:
            self._failures[job.run.variant] += 1
            if self._failures[job.run.variant] == MOST_FAILURES:
                self._show(f"{job.run.variant}: no more runs of it start, since {MOST_FAILURES} have failed")
        else:
            score = f"{self._score} {outcome.scores[self._score]:.6g}"
            self._show(f"{job.run}: {score}, {duration(outcome.seconds)}{self._remaining()}")

    def _outcome(self, job: _Job, future: "Future[Outcome]") -> Outcome:
        error = future.exception()
        outcome = future.result() if error is None else None
        if outcome is not None and not (job.overdue and outcome.reason):
            return outcome
        job.worker.kill()
        reason = "its process died: it was killed, or the machine ran out of memory"
        if job.overdue:
            reason = f"it took longer than the time limit of {self._timeout:g} s"
        output = outcome.output if outcome else ""
        return Outcome({}, time.monotonic() - job.started, "", reason, output, retry=True)

    def _remaining(self) -> str:
        """The number of runs of this batch that are left, and the time that they are expected to take."""
        if not self._left:
            return ""
        known = self._store.mean_seconds()
        total = sum(_expected_seconds(run, known) for run in self._left) / len(self.workers)
        return f"; {counted(len(self._left), 'run')} left, about {duration(total)}"

    def _stop(self) -> None:
        """Wait for the runs under way, which an error or a signal has ended."""
        wait(self._busy)
        for job in self._busy.values():
            job.claim.release()
        self._idle = list(self.workers)
        self._busy = {}


def _expected_seconds(run: Run, known: Mapping[str, float]) -> float:
    """The mean duration of the runs of its variant, else of the other variants; 0 if none is known.

    Args:
        run: the run.
        known: of `Store.mean_seconds`.
    """
    typical = sum(known.values()) / max(1, len(known))
    return known.get(run.variant, typical)
