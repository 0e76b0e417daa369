"""What it costs to hand out runs: simulated ones on a Dask cluster of local processes, by the train stage's own code.

python -m benchmarks.scheduling rewrites benchmarks/SCHEDULING.md.
"""

import argparse
import contextlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import distributed
import numpy as np

from benchmarks.process import processor_name
from many_seeds import console
from stages.recipes.shared.training import backend
from stages.study import params, paths
from stages.study.environments import installed_versions
from stages.study.families import code_digest
from stages.study.params import Recipe
from stages.train import schedule
from stages.train.run import Failed, Run, Trained

REPORT = Path(__file__).with_name("SCHEDULING.md")
REPOSITORY = Path(__file__).parents[1]
IMAGES, DEV = 60_000, 12_000  # as many as MNIST's
CLASSES = 10


@console.command
def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scheduling",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=1.0, help="that a simulated run takes")
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--megabytes", type=float, default=2.0, help="of a simulated model file")
    arguments = parser.parse_args()
    recipe = next(iter(params.load().variants.values()))  # of which a simulated run takes the name alone
    with tempfile.TemporaryDirectory() as folder, cluster(Path(folder), arguments.workers) as address:
        os.chdir(folder)
        os.environ["DASK_SCHEDULER_ADDRESS"] = address
        wall, first, memory = measure(recipe, arguments.runs, arguments.seconds, int(arguments.megabytes * 1e6))
        os.chdir(REPOSITORY)
    ideal = arguments.runs * arguments.seconds / arguments.workers
    later = (wall - first) / (ideal - arguments.seconds)  # the workers finish their first runs at much the same time
    REPORT.write_text(
        f"""\
# What it costs to hand out runs

{arguments.runs:,} simulated runs of {arguments.seconds:g} s, which sleep and send back a model file of \
{arguments.megabytes:g} MB, on {arguments.workers} Dask workers
on one machine, through `schedule.train_all`: workers checked, 47 MB of data sent, processes started, files written.
Publishing to MLflow is not among it.

```sh
python -m benchmarks.scheduling --runs {arguments.runs} --seconds {arguments.seconds:g} --workers {arguments.workers} \
--megabytes {arguments.megabytes:g}
```
| what | measured (n = 1) |
| --- | --- |
| wall time | {wall:.1f} s |
| ideal: runs × seconds / workers | {ideal:.1f} s |
| overhead | {100 * (wall / ideal - 1):.1f} % |
| until the first run came back: processes start, data travel | {first - arguments.seconds:.1f} s |
| overhead from then on | {100 * (later - 1):.1f} % |
"""
        + "".join(f"| driver's memory {when} | {size / 1e6:.0f} MB |\n" for when, size in memory.items())
        + f"""
{processor_name()}, {os.cpu_count()} cores; Python {platform.python_version()}, Dask {distributed.__version__}.
"""
    )
    print(REPORT.read_text())


@contextlib.contextmanager
def cluster(folder: Path, workers: int) -> Iterator[str]:
    """A scheduler and worker processes; yields the scheduler's address once all workers are there."""
    file = str(folder / "scheduler.json")
    programs = [
        ["dask_scheduler", "--host", "127.0.0.1", "--port", "0"],
        ["dask_worker", "--nworkers", str(workers), "--nthreads", "1", "--local-directory", str(folder)],
    ]
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", f"distributed.cli.{program}", "--scheduler-file", file, "--no-dashboard", *options],
            cwd=REPOSITORY,
            stderr=subprocess.DEVNULL,
        )
        for program, *options in programs
    ]
    try:
        with distributed.Client(scheduler_file=file) as client:
            client.wait_for_workers(workers)
            address = client.scheduler.address
        yield address
    finally:
        for process in reversed(processes):
            process.terminate()
            process.wait()


def measure(recipe: Recipe, runs: int, seconds: float, size: int) -> tuple[float, float, dict[str, int]]:
    """Seconds until all runs and until the first were back, and this process's bytes before and after so many runs."""

    def simulated(run: Run, images: np.ndarray, labels: np.ndarray, progress: Path | None) -> Trained | Failed:
        time.sleep(seconds)
        facts = {"seconds": seconds, "epochs": None, "dev_accuracy": None}
        return Trained(run, {"model.keras": os.urandom(size), "curves.csv": b"", "run.json": b"{}"}, facts)

    def finished(variant: str, seed: int) -> None:
        times.append(time.perf_counter() - started)
        if len(times) in (100, 500, runs):
            memory[f"after {len(times):,} runs"] = resident()
        shutil.rmtree(paths.run_path(variant, seed))  # so that the disk does not fill

    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (IMAGES, 28, 28), np.uint8)
    labels = generator.integers(0, CLASSES, IMAGES, np.uint8)
    digests = {"data": "", "code": code_digest(recipe.family)}
    versions = installed_versions(backend())
    dev = np.arange(DEV)
    planned = [Run("simulated", recipe, i, CLASSES, dev, "dask", digests, versions) for i in range(runs)]
    memory = {"before": resident()}
    times: list[float] = []
    started = time.perf_counter()
    schedule.train_all(planned, images, labels, on_finish=finished, train=simulated)
    return time.perf_counter() - started, times[0], memory


def resident() -> int:
    """Bytes of memory that this process holds; Linux only."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    main()
