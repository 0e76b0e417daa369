"""Batched seeds on a GPU, in minutes: the speed of the device and of batched seeds, then seeds of every variant.

`python -m benchmarks.gpu FOLDER` needs JAX, Keras, NumPy, pandas, scikit-learn, matplotlib, jinja2, pydantic and
ruamel.yaml, and the data set's files in the folder DATA_MIRROR. Each result is written to FOLDER as soon as it is
known.
"""

import argparse
import contextlib
import os
import re
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "jax")  # before Keras is imported
os.environ["STUDY_EXECUTOR"] = "lanes"

from benchmarks.gpu import device, seeds, table
from benchmarks.gpu.results import Results
from stages.study import files, params, paths
from tools.settle.seeds import with_seeds

ROOT = Path(__file__).parents[2]
PARTS = ("device", "table", "study", "seeds")
EVALUATIONS = 6  # side by side on the device


@contextlib.contextmanager
def study_folder(seeds_of_each: int, small: bool) -> Iterator[None]:
    """A folder with the study's parameters and data, which is the current one as long as the block runs.

    A small one has the digits of scikit-learn and ends after two epochs.
    """
    text = (ROOT / params.PARAMS).read_text(encoding="utf-8")
    if small:
        text = re.sub(r"epochs: \d+", "epochs: 2", text.replace("name: mnist", "name: digits"))
    names = params.parse(text, str(params.PARAMS)).variants
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            files.write_bytes(params.PARAMS, with_seeds(text, dict.fromkeys(names, seeds_of_each)).encode())
            (Path(folder) / "own").mkdir()
            for stage in ("fetch", "split"):
                seeds.run([sys.executable, "-m", f"stages.{stage}"], {})
            yield
        finally:
            os.chdir(before)


def whole_study(results: Results) -> None:
    """Every stage from training to the report, by the commands that DVC calls, and the seconds that each takes."""
    study, started = params.load(), time.perf_counter()
    seeds.run([sys.executable, "-m", "stages.train", "--all"], {})
    trained = time.perf_counter()
    small = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    with ThreadPoolExecutor(EVALUATIONS) as pool:
        commands = [[sys.executable, "-m", "stages.evaluate", variant] for variant in study.variants]
        list(pool.map(lambda command: seeds.run(command, small), commands))
    evaluated = time.perf_counter()
    seeds.run([sys.executable, "-m", "stages.aggregate"], {})
    took = {
        "runs": sum(recipe.seeds for recipe in study.variants.values()),
        "train_seconds": trained - started,
        "evaluate_seconds": evaluated - trained,
        "aggregate_seconds": time.perf_counter() - evaluated,
        "seconds": time.perf_counter() - started,
    }
    results.note("study", f"{next(iter(study.variants.values())).seeds} seeds", took)
    results.keep("study.zip", paths.RUNS.parent)


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("folder", type=Path, help="folder of the results")
    parser.add_argument("--parts", default=",".join(PARTS), help="the parts to run (default: all, %(default)s)")
    parser.add_argument(
        "--study-seeds",
        type=int,
        default=10,
        help="seeds of each variant in the study, from training to the report (default: %(default)s)",
    )
    parser.add_argument(
        "--seeds", type=int, default=64, help="seeds of each variant for the verdicts (default: %(default)s)"
    )
    parser.add_argument(
        "--earlier", type=Path, help="an archive with the runs of an earlier call, which are not trained again"
    )
    parser.add_argument("--small", action="store_true", help="few seeds and data, to test the command on a CPU")
    return parser.parse_args(given)


def main(given: Sequence[str] | None = None) -> None:
    asked = arguments(given)
    results, parts = Results(asked.folder.absolute()), asked.parts.split(",")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    if "study" in parts:  # first, while this process has no memory of the device
        with study_folder(asked.study_seeds, asked.small):
            whole_study(results)
    if "device" in parts:
        results.note("device", "facts", device.facts(asked.small))
    if "table" in parts:
        with study_folder(max(table.WIDTHS), asked.small):
            table.measure_all(params.load(), results, asked.small)
    if "seeds" in parts:
        earlier = asked.earlier and asked.earlier.absolute()
        with study_folder(asked.seeds, asked.small):
            if earlier:
                with zipfile.ZipFile(earlier) as archive:
                    runs = f"{paths.RUNS.as_posix()}/"
                    archive.extractall(members=[name for name in archive.namelist() if name.startswith(runs)])
            seeds.train(params.load(), results)


if __name__ == "__main__":
    main()
