"""How long a Dask cluster takes to train, beside as many workers without one, and whether the bits are the same.

`python -m benchmarks.cluster` rewrites benchmarks/CLUSTER.md, on an idle machine in most of an hour.
"""

import dataclasses
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import distributed
import joblib

from benchmarks.process import environment, processor_name, require_data, write_study
from benchmarks.scheduling import cluster
from many_seeds import console
from many_seeds.errors import UserError
from stages.recipes.shared.training import backend
from stages.study import files, params, paths
from stages.study.environments import installed_versions

REPORT = Path(__file__).with_name("CLUSTER.md")
REPEATS = 3
WITHOUT, DASK = "without", "Dask"


@dataclasses.dataclass(frozen=True)
class Size:
    """How many seeds of a variant are trained, and for how many epochs at most."""

    seeds: int
    epochs: int | None = None


SIZES = {
    "linear": Size(4),
    "elm": Size(4),
    "mlp_reference": Size(6),
    "mlp_tuned": Size(4, epochs=10),
    "cnn_reference": Size(2, epochs=1),
    "cnn_tuned": Size(2, epochs=2),
}


@dataclasses.dataclass(frozen=True)
class Trained:
    seconds: float
    models: list[str]  # digests, seed by seed


def train(variant: str, size: Size, way: str) -> Trained:
    """Train a variant as its stage does, in an empty folder; a cluster is up before the clock starts."""
    study = params.load()
    changes = {"seeds": size.seeds} | ({"epochs": size.epochs} if size.epochs else {})
    recipe = study.recipe(variant).model_copy(update=changes)
    short = study.model_copy(update={"variants": {**study.variants, variant: recipe}})
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "data").symlink_to(Path("data").resolve())
        write_study(short, folder)
        settings = environment(folder)
        if way == WITHOUT:
            seconds = stage(variant, folder, settings)
        else:
            with cluster(folder, joblib.cpu_count()) as address:
                seconds = stage(variant, folder, settings | {"DASK_SCHEDULER_ADDRESS": address})
        runs = [folder / paths.run_path(variant, seed) for seed in range(size.seeds)]
        return Trained(seconds, [files.digest((run / "model.keras").read_bytes()) for run in runs])


def stage(variant: str, folder: Path, settings: dict[str, str]) -> float:
    """Seconds that the train stage of a variant takes.

    Raises:
        UserError: it failed; the message ends with what it printed.
    """
    started = time.perf_counter()
    command = [sys.executable, "-m", "stages.train", variant]
    answer = subprocess.run(command, cwd=folder, env=settings, capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        raise UserError(f"training {variant} failed:\n{answer.stderr[-2000:]}")
    return time.perf_counter() - started


Pairs = dict[str, list[tuple[Trained, Trained]]]  # by variant, for each repeat: without Dask and with it


def page(pairs: Pairs) -> str:
    """The report.

    Raises:
        UserError: a model is not the same in all of its runs.
    """
    models = 0
    for variant, repeats in pairs.items():
        first, *others = [trained.models for pair in repeats for trained in pair]
        if any(other != first for other in others):
            raise UserError(f"the models of {variant} should be the same bits with Dask and without, and are not")
        models += len(first)
    seconds = {
        variant: [(without.seconds, dask.seconds) for without, dask in repeats] for variant, repeats in pairs.items()
    }
    rows = [
        f"| {variant} | {SIZES[variant].seeds} | {SIZES[variant].epochs or 'all'} | {figures(each)}"
        for variant, each in seconds.items()
    ]
    whole = [
        (sum(without for without, _ in repeat), sum(dask for _, dask in repeat))
        for repeat in zip(*seconds.values(), strict=True)
    ]
    workers = joblib.cpu_count()
    versions = {"Dask": distributed.__version__, **installed_versions(backend())}
    packages = ", ".join(f"{name} {version}" for name, version in versions.items())
    return f"""\
# Training on a Dask cluster

Written by `python -m benchmarks.cluster`: the train stage of a variant in an empty folder, with this machine's \
{workers} worker
processes and with a Dask cluster of {workers} workers on it, in turn, {len(whole)} times. From the start of the \
command to its
end, its imports and MLflow among it. The cluster is up before, and new each time, so that every process of it starts
without the images and without TensorFlow. Seconds are medians, the ratio is the median of the ratios of the \
{len(whole)} pairs,
with the lowest and the highest. Fewer seeds and epochs than the study's weigh the start more.

| variant | seeds | epochs | without Dask, s | Dask, s | Dask / without | range |
| --- | --- | --- | --- | --- | --- | --- |
{chr(10).join(rows)}
| all of them | | | {figures(whole)}

All {models} models are the same bits with Dask and without, each time. 1,000 short runs on 8 workers:
[SCHEDULING.md](SCHEDULING.md).

{processor_name()}, {os.cpu_count()} cores; Python {platform.python_version()}, {packages}.
"""


def figures(seconds: Sequence[tuple[float, float]]) -> str:
    without, dask = (statistics.median(way) for way in zip(*seconds, strict=True))
    ratios = [dask / without for without, dask in seconds]
    return f"{without:.0f} | {dask:.0f} | {statistics.median(ratios):.2f} × | {min(ratios):.2f} … {max(ratios):.2f} |"


@console.command
def main() -> None:
    console.take_no_arguments("benchmarks.cluster", __doc__)
    require_data()
    pairs: Pairs = {variant: [] for variant in SIZES}
    for repeat in range(REPEATS):
        for variant, size in SIZES.items():
            trained = {}
            for way in (WITHOUT, DASK):
                trained[way] = train(variant, size, way)
                print(f"{repeat + 1} of {REPEATS}: {variant}, {way}: {trained[way].seconds:.1f} s", flush=True)
            pairs[variant].append((trained[WITHOUT], trained[DASK]))
    files.write_bytes(REPORT, page(pairs).encode())
    print(f"written: {REPORT}")


if __name__ == "__main__":
    main()
