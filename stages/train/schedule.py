"""Train many runs, and write each as it ends."""

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
    """Train runs and write each as it ends, so that a kill loses only those under way.

    Args:
        runs: the runs, in the order in which to start them.
        images: uint8 [n, height, width] or [n, height, width, 3].
        labels: uint8 or uint16 [n].
        on_finish: is called with the variant and the seed of every run that has been written.
        train: what a worker executes.
        folder: where the runs' folders lie.

    Raises:
        UserError: some run failed, or the workers are lost or can't be had; the finished runs are on disk.
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
    """A line for each reason, with the runs that failed for it."""
    names: dict[str, list[str]] = {}
    for failure in failures:
        names.setdefault(failure.reason, []).append(failure.run.name)
    return "\n".join(f"  {', '.join(runs)}: {reason}" for reason, runs in names.items())
