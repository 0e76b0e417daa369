"""Lanes on a GPU, in minutes: what the device can do, how fast lanes are, then seeds of every variant.

`python -m benchmarks.gpu FOLDER` needs a Python with JAX, NumPy, pandas, scikit-learn, Keras, pydantic and ruamel.yaml,
and MNIST's four files in data/raw. Every result is on disk as soon as there is one; started again, it goes on.
"""

import argparse
import contextlib
import os
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

# Before JAX is imported.
os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.92")

import jax

from benchmarks.gpu import device, table
from benchmarks.gpu.results import Results
from benchmarks.gpu.seeds import Block, Data, keep_ridge, run_blocks
from stages import params, records
from stages.params import Network, Params
from stages.split.idx import read_idx

SMALL_GROUPS = (("mlp_6_batch_128", "mlp_tuned"), ("cnn_tuned",))
TABLE_VARIANTS = ("mlp_tuned", "mlp_reference", "cnn_tuned", "cnn_reference")
WIDTHS = (64, 256, 10, 1)  # the goals first
FORM_WIDTH = 64
COMPILE_THREADS = 8
PARTS = ("device", "table", "seeds")
CACHE = "cache.tar"
LARGEST_FILE = 16 * 2**20

# Variants of a line share their programs. The chain of the MLPs costs seconds a step and has the most steps that ten
# seeds leave open; then the CNNs, the best one first, those that cost most last.
GROUPS = (
    ("mlp_reference",),
    ("mlp_1_wider", "mlp_2_ten_epochs"),
    ("mlp_6_batch_128", "mlp_tuned"),
    ("mlp_3_early_stopping", "mlp_4_lower_rate", "mlp_5_glorot"),
    ("mlp_8_batch_512",),
    ("cnn_tuned",),
    ("cnn_5_early_stopping", "cnn_6_schedule"),
    ("cnn_3_pool_first", "cnn_4_ten_epochs"),
    ("cnn_2_dropout",),
    ("cnn_reference",),
)
MLP_SEEDS, CNN_SEEDS = 128, 64  # of a block
MLP_WIDTH, CNN_WIDTH = 256, 64
MOST_SEEDS = 256
RIDGE_SEEDS = 32  # of a block
RIDGE = ("linear", "elm")


def read_data(small: bool) -> Data:
    arrays = {part: read_idx(records.RAW / file, axes=3 if "images" in part else 1) for part, file in _files().items()}
    data = Data(arrays["train_images"], arrays["train_labels"], arrays["test_images"], arrays["test_labels"])
    if not small:
        return data
    return Data(data.images[:640], data.labels[:640], data.test_images[:200], data.test_labels[:200])


def _files() -> dict[str, str]:
    return {part: records.RAW_FILES[part] for part in ("train_images", "train_labels", "test_images", "test_labels")}


def small_study(study: Params) -> Params:
    """The same variants, which end after two epochs."""
    variants = {
        name: recipe.model_copy(update={"epochs": min(recipe.epochs, 2)}) if isinstance(recipe, Network) else recipe
        for name, recipe in study.variants.items()
    }
    return study.model_copy(update={"variants": variants})


def measure_table(study: Params, data: Data, results: Results, small: bool) -> None:
    """The table, and Keras's fit beside it."""
    names = ("mlp_tuned", "cnn_tuned") if small else TABLE_VARIANTS
    recipes = {name: recipe for name in names if isinstance(recipe := study.recipe(name), Network)}
    fraction = study.split.dev_fraction
    rows = table.cases(recipes, (2, 1) if small else WIDTHS, 2 if small else FORM_WIDTH)
    if small:  # a CPU takes minutes for a step of grouped convolutions
        rows = [case for case in rows if case.convolution != "grouped"]
    rows = [case for case in rows if not results.has("lanes", case.name)]
    for name, recipe in recipes.items():
        if not results.has("fit", name):
            results.note("fit", name, table.fit_epoch(recipe, data.images, data.labels, fraction))
    # Some at a time: what is compiled is measured before the next ones are, and nothing compiles beside a measurement.
    for first in range(0, len(rows), COMPILE_THREADS):
        some = rows[first : first + COMPILE_THREADS]
        started = time.perf_counter()
        compiled = table.compile_all(some, data.images, fraction, COMPILE_THREADS)
        results.note("compiled", f"from row {first}", time.perf_counter() - started)
        for case in some:
            costs = compiled[case.name]
            row = {"error": costs} if isinstance(costs, str) else _table_row(case, costs, study, data, results)
            results.note("lanes", case.name, row)


def _table_row(
    case: table.Case, costs: dict[str, float], study: Params, data: Data, results: Results
) -> dict[str, Any]:
    try:
        row = table.measure(case, data.images, data.labels, study.split.dev_fraction)
    except jax.errors.JaxRuntimeError as error:
        return {"error": str(error).splitlines()[0]}
    epochs, fit = mean_epochs(case.variant), results.facts["fit"][case.variant]["epoch_seconds"]
    return {
        **row,
        **costs,
        "seeds_per_minute": 60 * case.lanes / (row["epoch_seconds"] * epochs),
        "fit_seeds_per_minute": 60 / (fit * epochs),
        "ratio_to_fit": fit * case.lanes / row["epoch_seconds"],
        "share_of_peak": row["tflops"] / results.facts["device"]["facts"]["tflops"]["float32"],
        "peak_gib": (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use", 0) / 2**30,
    }


def mean_epochs(variant: str) -> float:
    """Of the study's committed runs."""
    return float(pd.read_csv(records.scores_path(variant))["epochs"].mean())


def best_form(results: Results) -> Callable[[str], str]:
    """The form of convolution that was fastest for variants of the same pooling, as far as it was measured."""

    def form(variant: str) -> str:
        alike = "cnn_reference" if variant in ("cnn_reference", "cnn_2_dropout") else "cnn_tuned"
        seconds = {
            name.split()[-1]: row["step_ms"]
            for name, row in results.facts.get("lanes", {}).items()
            if name.startswith(f"{alike} x {FORM_WIDTH} ") and "step_ms" in row and "dropout" not in name
        }
        if not variant.startswith("cnn") or not seconds:
            return "patches"
        return min(seconds, key=lambda name: seconds[name])

    return form


def best_dropout(results: Results) -> str:
    """Whichever was faster for the CNN that most seeds are of, as far as it was measured."""
    rows = results.facts.get("lanes", {})
    name = f"cnn_tuned x {FORM_WIDTH} patches"
    ours, keras = (rows.get(name + end, {}).get("step_ms") for end in ("", " dropout:keras"))
    return "keras" if ours and keras and keras < ours else "bytes"


def seed_blocks() -> list[Block]:
    """Every variant once, then more seeds of the MLPs."""
    blocks = [_block(group, range(_seeds(group))) for group in GROUPS]
    more = [_block(group, range(_seeds(group), MOST_SEEDS)) for group in GROUPS if _is_mlp(group)]
    return blocks + more


def study_blocks(seeds: int, groups: Sequence[tuple[str, ...]]) -> list[Block]:
    # The longest first: what comes after it compiles meanwhile.
    order = sorted(groups, key=lambda group: not group[0].startswith("cnn_5"))
    return [Block(group, tuple(range(seeds)), seeds * len(group)) for group in order]


def _block(group: tuple[str, ...], seeds: Sequence[int]) -> Block:
    width = MLP_WIDTH if _is_mlp(group) else CNN_WIDTH
    return Block(group, tuple(seeds), min(width, len(seeds) * len(group)))


def _is_mlp(group: tuple[str, ...]) -> bool:
    return group[0].startswith("mlp")


def _seeds(group: tuple[str, ...]) -> int:
    return MLP_SEEDS if _is_mlp(group) else CNN_SEEDS


def guess_seconds(results: Results, study: Params, images: int) -> Callable[[Block], float]:
    """How long a block will take, from the table: MLPs cost by the step, CNNs by the image; 0 without a table."""

    def guess(block: Block) -> float:
        first = study.recipe(block.variants[0])
        assert isinstance(first, Network)
        alike = "mlp_tuned" if not first.filters else "cnn_tuned" if first.pool[0] else "cnn_reference"
        lanes = MLP_WIDTH if not first.filters else CNN_WIDTH
        row = results.facts.get("lanes", {}).get(f"{alike} x {lanes} patches", {})
        if "step_ms" not in row:
            return 0.0
        measured = study.recipe(alike)
        assert isinstance(measured, Network)
        size = 1.0 if not first.filters else first.batch_size / measured.batch_size
        steps = images / first.batch_size * sum(mean_epochs(variant) for variant in block.variants) * len(block.seeds)
        return 10 + 1.25 * steps * size * row["step_ms"] / 1e3 / lanes

    return guess


def fit_ridge_blocks(study: Params, data: Data, results: Results, seeds: int, jobs: int, deadline: float) -> None:
    for first in range(0, seeds, RIDGE_SEEDS):
        for variant in RIDGE:
            block = range(first, min(first + RIDGE_SEEDS, seeds))
            if time.time() < deadline and not set(block) <= results.seeds(variant):
                seconds = keep_ridge(variant, block, study, data, results, jobs)
                results.note("ridge", f"{variant} {block[0]}-{block[-1]}", seconds)


@contextlib.contextmanager
def compile_cache(folder: Path, earlier: Path | None) -> Iterator[Callable[[], None]]:
    """JAX's cache of compiled programs, carried as one file from call to call; yields what writes that file."""
    with tempfile.TemporaryDirectory() as cache:
        for source in (earlier, folder):
            if source and (source / CACHE).exists():
                with tarfile.open(source / CACHE) as archive:
                    archive.extractall(cache, filter="data")
        jax.config.update("jax_compilation_cache_dir", cache)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 1.0)
        try:
            yield lambda: _pack(Path(cache), folder / CACHE)
        finally:
            _pack(Path(cache), folder / CACHE)


def _pack(cache: Path, target: Path) -> None:
    """As much of the cache as fits into a file, the largest programs last."""
    files = sorted((path for path in cache.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    room = LARGEST_FILE - 2**20
    with tarfile.open(target, "w") as archive:
        for path in files:
            room -= path.stat().st_size + 2048
            if room > 0:
                archive.add(path, path.relative_to(cache))


def run_study(study: Params, data: Data, results: Results, seeds: int, groups: Any, jobs: int, deadline: float) -> None:
    """All variants with `seeds` seeds, and how long it takes from the start of training to the last prediction."""
    started = time.perf_counter()
    host = threading.Thread(target=fit_ridge_blocks, args=(study, data, results, seeds, jobs, deadline))
    host.start()
    whole = run_blocks(
        study_blocks(seeds, groups),
        study,
        data,
        results,
        part="study",
        form=best_form(results),
        dropout=best_dropout(results),
        deadline=deadline,
        guess=lambda block: 0.0,
    )
    networks = time.perf_counter() - started
    host.join()
    took = {"network_seconds": networks, "seconds": time.perf_counter() - started, "whole": whole}
    results.note("study_total", f"{seeds} seeds", took)


def run_seeds(
    study: Params, data: Data, results: Results, blocks: Any, ridge_seeds: int, jobs: int, deadline: float
) -> None:
    host = threading.Thread(target=fit_ridge_blocks, args=(study, data, results, ridge_seeds, jobs, deadline - 30))
    host.start()
    run_blocks(
        blocks,
        study,
        data,
        results,
        part="blocks",
        form=best_form(results),
        dropout=best_dropout(results),
        deadline=deadline,
        guess=guess_seconds(results, study, len(data.images)),
    )
    host.join()


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("folder", type=Path, help="for the results")
    parser.add_argument("--minutes", type=float, default=9, help="no block is begun that would end later")
    parser.add_argument("--earlier", type=Path, help="a folder of an earlier call, to go on from")
    parser.add_argument("--parts", default=",".join(PARTS), help=f"some of {','.join(PARTS)}")
    parser.add_argument("--study", type=int, metavar="SEEDS", help="instead: all variants with so many seeds")
    parser.add_argument("--small", action="store_true", help="few images, lanes and epochs, to try it on a CPU")
    return parser.parse_args()


def main() -> None:
    started, asked = time.time(), arguments()
    deadline = started + 60 * asked.minutes
    jobs = max(1, (os.cpu_count() or 1) - 4)
    study, data = params.load(), read_data(asked.small)
    study = small_study(study) if asked.small else study
    results = Results(asked.folder, asked.earlier, "study.zip" if asked.study else "runs.zip")
    parts = asked.parts.split(",")
    with compile_cache(asked.folder, asked.earlier) as keep_programs:
        if not results.has("device", "facts"):
            results.note("device", "facts", device.facts(asked.small))
        if asked.study:
            run_study(study, data, results, asked.study, SMALL_GROUPS if asked.small else GROUPS, jobs, deadline)
            return
        if "table" in parts:
            measure_table(study, data, results, asked.small)
            keep_programs()
        if "seeds" in parts:
            blocks = study_blocks(2, SMALL_GROUPS) if asked.small else seed_blocks()
            run_seeds(study, data, results, blocks, 2 if asked.small else MOST_SEEDS, jobs, deadline)
    results.note("total", time.strftime("%H:%M:%S"), time.time() - started)


if __name__ == "__main__":
    main()
