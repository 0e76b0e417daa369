"""Dispatch runs to executors, and write each run as soon as it ends."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from many_seeds.errors import UserError
from stages.study import files, paths
from stages.train.executors import executing
from stages.train.progress import Progress
from stages.train.run import Failed, Run, Train, train_run


def train_all(
    runs: Sequence[Run],
    images: np.ndarray,
    labels: np.ndarray,
    *,
    on_finish: Callable[[str, int], object],
    train: Train = train_run,
    folder: Path = paths.MODELS,
) -> None:
    """Train runs and write each one as soon as it ends, so that an interruption loses only the runs under way.

    Args:
        runs: the runs, in the order in which to start them.
        images: uint8 [n, height, width] or [n, height, width, 3].
        labels: uint8 or uint16 [n].
        on_finish: called with variant and seed of each run after it was written.
        train: the function that a worker executes.
        folder: the folder of all models.

    Raises:
        UserError: a run failed, or the workers were lost or are not available. The finished runs are kept.
    """
    failures = []
    with (
        executing(runs, images, labels, train) as (results, under_way),
        Progress(len(runs), under_way) as progress,
    ):
        for result in results:
            if isinstance(result, Failed):
                failures.append(result)
                progress.write(f"{result.run.name}: failed: {result.reason}")
                continue
            files.write_folder(paths.run_path(result.run.variant, result.run.seed, folder), result.files)
            progress.finish(result)
            on_finish(result.run.variant, result.run.seed)
    if failures:
        raise UserError(f"{len(failures)} of {len(runs)} runs failed; the others are kept:\n" + _listed(failures))


def _listed(failures: Sequence[Failed]) -> str:
    """A line for each reason, with the runs that failed for that reason."""
    names: dict[str, list[str]] = {}
    for failure in failures:
        names.setdefault(failure.reason, []).append(failure.run.name)
    return "\n".join(f"  {', '.join(runs)}: {reason}" for reason, runs in names.items())
