"""Measure how the commands scale with the number of variants, on an idle machine.

`python -m benchmarks.scale` makes studies of small networks on scikit-learn's digits in temporary folders and writes
benchmarks/SCALE.md.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import joblib
from PIL import Image

from benchmarks import overhead
from benchmarks.measure import network_of
from benchmarks.process import environment, processor_name, write_study
from many_seeds.commands import console
from many_seeds.errors import UserError
from many_seeds.output import text
from stages.study import dvc, files, params, paths
from stages.study.data import Data
from stages.study.params import Params, Split
from stages.study.records.models import read_facts

REPORT = Path("benchmarks/SCALE.md")
SEEDS = 3
COMMANDS = {
    "dvc status": ["dvc", "status", "--quiet"],
    "dvc repro with nothing to do": ["dvc", "repro", "--quiet"],
    "make stale": [sys.executable, "-m", "tools.stale"],
    "make settle ARGS=--plan": [sys.executable, "-m", "tools.settle", "--plan"],
}
TOGETHER = "first results with --all, beside training, for each variant"
AGGREGATE, FIRST = "the stage aggregate", "First `dvc repro`, beside training, seconds for each variant"
REPORT_SIZE, TALLEST = "report.html, MB", "the tallest figure, pixels"


def wide_study(study: Params, variants: int) -> Params:
    """A study of the digits: a chain of small networks, each with a lower learning rate than the one before."""
    short = network_of(study, "mlp_reference").model_copy(update={"seeds": SEEDS, "epochs": 1})
    recipes = {
        f"mlp_{number}": short.model_copy(update={"learning_rate": 0.001 * 0.99**number}) for number in range(variants)
    }
    changes = {
        "data": Data(name="digits"),
        "split": Split(dev_fraction=0.2, seeds=SEEDS),
        "variants": recipes,
        "approaches": {"MLP": "mlp_0"},
        "champion": None,
        "comparisons": [],
        "chains": {"learning rate": list(recipes)},
    }
    return study.model_copy(update=changes)


def prepare(study: Params, folder: Path) -> float:
    """Make the results of a study in `folder`, but for the stage aggregate.

    Returns:
        The seconds of training, evaluation and their record in dvc.lock, without those of the runs themselves.

    Raises:
        UserError: a command failed.
    """
    overhead.copy_code(folder)
    write_study(study, folder)
    run(["git", "init", "--quiet"], folder)
    run(dvc.command("repro", "--quiet", "split", "code", "ledger"), folder)
    seconds = run([sys.executable, "-m", "stages.train", "--all"], folder)
    seconds += run([sys.executable, "-m", "stages.evaluate", "--all"], folder)
    seconds += run(dvc.command("repro", "--quiet", "evaluate"), folder)
    runs = [paths.run_path(variant, seed) for variant in study.variants for seed in range(SEEDS)]
    return seconds - sum(read_facts(folder / path)["seconds"] for path in runs) / joblib.cpu_count()


def run(command: Sequence[str], folder: Path) -> float:
    """The seconds that a command takes in `folder`.

    Raises:
        UserError: it failed.
    """
    started = time.perf_counter()
    done = subprocess.run(command, cwd=folder, env=environment(folder), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise UserError(f"{' '.join(command)} failed in {folder}:\n{(done.stdout + done.stderr)[-2000:]}")
    return time.perf_counter() - started


def scaled(study: Params) -> dict[str, float]:
    """What the commands take on a study: seconds, megabytes or pixels."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = {TOGETHER: prepare(study, folder) / len(study.variants)}
        found |= {AGGREGATE: run(dvc.command("repro", "--quiet", "aggregate"), folder)}
        found |= {title: run(command, folder) for title, command in COMMANDS.items()}
        tallest = max(Image.open(path).height for path in (folder / paths.PLOTS).glob("*.png"))
        return found | {REPORT_SIZE: (folder / paths.REPORT).stat().st_size / 1e6, TALLEST: tallest}


def first_repro(study: Params) -> float:
    """The seconds of a first `dvc repro` for each variant of a study, beside training."""
    with tempfile.TemporaryDirectory() as name:
        seconds = overhead.reproduce(study, Path(name))
    return sum(seconds[part] for part in (overhead.START, overhead.REST, overhead.EVALUATE)) / len(study.variants)


def report(measured: dict[int, dict[str, float]], first: dict[int, float]) -> str:
    """The measurements in Markdown.

    Args:
        measured: the number of variants → what `scaled` returns.
        first: the number of variants → what `first_repro` returns.
    """
    titles = list(next(iter(measured.values())))
    rows = [[title, *(f"{of[title]:,.1f}".removesuffix(".0") for of in measured.values())] for title in titles]
    numbers = [f"{count} variants" for count in measured]
    beside = "; ".join(f"{seconds:.1f} with {count} variants" for count, seconds in first.items())
    return f"""\
# Many variants

`python -m benchmarks.scale`: seconds, where nothing else is said, with {SEEDS} seeds of small networks on
scikit-learn's digits. {joblib.cpu_count()} cores of {processor_name()}, n = 1, {time.strftime("%Y-%m-%d")}.

{text.markdown(["", *numbers], rows)}

{FIRST}: {beside}.
"""


@console.command
def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__.partition("\n")[0])
    parser.add_argument("--variants", type=int, nargs="+", default=[20, 60, 120], help="default: %(default)s")
    parser.add_argument("--first", type=int, default=4, help="variants of the first `dvc repro` (default: %(default)s)")
    arguments = parser.parse_args()
    study = params.load()
    first = {arguments.first: first_repro(wide_study(study, arguments.first))}
    measured = {}
    for count in arguments.variants:
        measured[count] = scaled(wide_study(study, count))
        print(count, measured[count], flush=True)
    files.write_bytes(REPORT, report(measured, first).encode())
    print(REPORT.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
