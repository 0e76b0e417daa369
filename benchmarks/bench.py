"""Measure the training time compared with plain Keras, and the overhead of the pipeline, on an idle machine.

Writes benchmarks/README.md and benchmarks/bench.json after the last measurement. `--quick` runs everything on few data
and writes to build/bench; `--render` writes README.md again from bench.json.
"""

import argparse
import dataclasses
import importlib.metadata
import os
import platform
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import joblib
import psutil

from benchmarks import overhead
from benchmarks.measure import network_of
from benchmarks.process import measure, processor, processor_name, require_data
from benchmarks.summary import BFLOAT16, BUSY, ratios, summarise
from many_seeds.commands import console
from stages.recipes.shared.training import backend
from stages.study import files, params, paths
from stages.study.data import DatasetName
from stages.study.params import Params
from stages.study.provenance.environments import installed_versions
from stages.study.records.results import read_results
from stages.study.records.splits import read_images

FOLDER, QUICK_FOLDER = Path("benchmarks"), Path("build/bench")
INSTRUCTIONS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")  # that decide how fast matrix products are

IDLE_SECONDS = 5.0  # in which other work would be seen

Results = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Effort:
    """How much is measured.

    repeats: of every training measurement.
    epochs: of each of its runs.
    images: to train each variant on, validation images included.
    data, seeds: of the study whose costs beside training are measured.
    growth: numbers of seeds, to see how these costs grow.
    """

    repeats: int
    epochs: int
    images: dict[str, int]
    data: DatasetName
    seeds: int
    growth: list[int]


FULL = Effort(
    repeats=5,
    epochs=3,
    images={"mlp_reference": 60_000, "mlp_tuned": 60_000, "cnn_reference": 6_000, "cnn_tuned": 20_000},
    data="mnist",
    seeds=10,
    growth=[2, 10, 40],
)
QUICK = Effort(
    repeats=1,
    epochs=2,
    images={"mlp_reference": 3_000, "mlp_tuned": 3_000, "cnn_reference": 1_000, "cnn_tuned": 1_000},
    data="digits",
    seeds=2,
    growth=[2, 3, 4],
)


def take(effort: Effort, study: Params) -> Results:
    """Measure everything, the ways that are compared in turn, and return the figures as they came."""
    started = time.monotonic()

    def say(what: str) -> None:
        print(f"[{time.monotonic() - started:5.0f} s] {what}", flush=True)

    load = psutil.cpu_percent(interval=IDLE_SECONDS) / 100 * joblib.cpu_count()
    if load > BUSY:
        say(f"other work runs beside (load {load:.1f}): the figures will say little")
    results: Results = {"load": load, "peak": {"one core": [], "all cores": []}, "variants": {}}
    all_images = len(read_images(paths.TRAIN)[1])
    for name, images in effort.images.items():
        recipe = network_of(study, name)
        results["variants"][name] = {
            "convolutions": len(recipe.filters),
            "batch_size": recipe.batch_size,
            "images": images,
            "all_images": all_images,
            "dev_images": round(study.split.dev_fraction * images) if recipe.dev_split else 0,
            "epochs": read_results(name).scores["epochs"].tolist(),
            "plain": [],
            "pipeline": [],
            BFLOAT16: [],
        }
    for repeat in range(1, effort.repeats + 1):
        prefix = f"repeat {repeat} of {effort.repeats}:"
        for cores, threads in {"one core": 1, "all cores": joblib.cpu_count()}.items():
            say(f"{prefix} matrix products on {cores}")
            results["peak"][cores].append(measure("peak", threads=threads))
        for name, variant in results["variants"].items():
            size = {"variant": name, "images": variant["images"], "epochs": effort.epochs}
            say(f"{prefix} {name}, plain")
            variant["plain"].append(measure("plain", **size))
            say(f"{prefix} {name}, pipeline")
            variant["pipeline"].append(measure("pipeline", **size, precision="float32"))
            if variant["convolutions"]:
                say(f"{prefix} {name}, pipeline in {BFLOAT16}")
                variant[BFLOAT16].append(measure("pipeline", **size, precision=BFLOAT16))
    variants = list(effort.images)
    say(f"dvc repro on {effort.data}: {effort.seeds} seeds of {len(variants)} variants")
    results["beside"] = costs(study, effort.data, effort.seeds, variants)
    results["growth"] = []
    for seeds in effort.growth:
        say(f"dvc repro on digits: {seeds} seeds of {variants[0]}")
        results["growth"].append(costs(study, "digits", seeds, variants[:1]))
    say("done")
    return results


def costs(study: Params, data: DatasetName, seeds: int, variants: Sequence[str]) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        return overhead.reproduce(overhead.short_study(study, data, seeds, variants), Path(folder))


def machine() -> dict[str, Any]:
    """What two runs must have in common for their figures to be compared."""
    flags = processor().get("flags", "").split()
    return {
        "cpu": processor_name(),
        "instructions": [name for name in INSTRUCTIONS if name in flags],
        "cores": joblib.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
    }


def versions() -> dict[str, str]:
    others = {name: importlib.metadata.version(name) for name in ("dvc", "mlflow")}
    return {"python": platform.python_version(), **installed_versions(backend()), **others}


def former_ratios(path: Path, conditions: Results) -> dict[str, float] | None:
    """The ratios of the run before, if it measured the same on the same machine, however often."""
    if not path.exists():
        return None
    former = files.read_json(path)
    once = {"repeats": 1}
    same = former["machine"] == conditions["machine"] and former["effort"] | once == conditions["effort"] | once
    return ratios(former) if same else None


def page(results: Results) -> str:
    """The README of a run."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("README.md.j2").render(summarise(results))


@console.command
def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--quick", action="store_true", help="run everything on few data, as a test, and write to build/bench"
    )
    parser.add_argument("--render", action="store_true", help="measure nothing; write README.md from bench.json")
    arguments = parser.parse_args()
    folder = QUICK_FOLDER if arguments.quick else FOLDER
    path = folder / "bench.json"
    if arguments.render:
        results = files.read_json(path)
    else:
        require_data()
        effort = QUICK if arguments.quick else FULL
        conditions = {"machine": machine(), "effort": dataclasses.asdict(effort)}
        own = {**conditions, "versions": versions(), "former": former_ratios(path, conditions)}
        results = own | take(effort, params.load())
        files.write_json(path, results)
    files.write_bytes(folder / "README.md", page(results).encode())
    print(f"written: {folder / 'README.md'}")


if __name__ == "__main__":
    main()
