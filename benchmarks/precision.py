"""What training in bfloat16 does to the accuracy of a variant, by the statistics of the study.

`python -m benchmarks.precision` trains every seed of the two CNNs anew in build/precision, a copy of the last commit,
compares them with the committed runs, and writes benchmarks/PRECISION.md: an hour of two cores that have bfloat16
instructions, many hours of others. Killed, it goes on where it was.
"""

import argparse
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.process import environment, processor_name, require_data, write_study
from benchmarks.summary import BFLOAT16
from many_seeds import console
from many_seeds.errors import UserError
from stages.recipes.shared.training import backend
from stages.study import files, params
from stages.study.environments import installed_versions
from stages.study.params import Params

FOLDER = Path("build/precision")
REPORT = Path("benchmarks/PRECISION.md")
VARIANTS = ["cnn_reference", "cnn_tuned"]


def in_bfloat16(study: Params, variants: Sequence[str]) -> Params:
    """The study with another precision of these variants.

    Raises:
        UserError: one of them is unknown, is no network, or is in bfloat16 already.
    """
    changed = {}
    for name in variants:
        recipe = study.recipe(name)
        precision = recipe.model_dump().get("precision")
        if precision in (None, BFLOAT16):
            raise UserError(
                f"expected a variant with `precision: float32`, received {name!r}, which {params.PARAMS} has as "
                f"{recipe.family}" + (f" in {precision}" if precision else "")
            )
        changed[name] = recipe.model_copy(update={"precision": BFLOAT16})
    return study.model_copy(update={"variants": {**study.variants, **changed}})


def run(*command: str, folder: Path = FOLDER) -> None:
    """Run a command with its output where this process has its own.

    Raises:
        UserError: it failed.
    """
    status = subprocess.run(command, cwd=folder, env=environment(FOLDER), check=False).returncode
    if status != 0:
        raise UserError(f"`{' '.join(command)}` ended with status {status} in {folder}")


def train(variants: Sequence[str]) -> str:
    """Train and evaluate variants in bfloat16, and return how they differ from the last commit, as Markdown."""
    if not (FOLDER / ".git").exists():
        with files.written_whole(FOLDER) as unfinished:
            run("git", "clone", "--quiet", ".", str(unfinished), folder=Path())
    # The copy's own repository, named: where that is damaged, git would reset the checkout around it.
    run("git", "--git-dir=.git", "fetch", "--quiet", "origin", "HEAD")
    run("git", "--git-dir=.git", "reset", "--quiet", "--hard", "FETCH_HEAD")
    shutil.copytree("data", FOLDER / "data", dirs_exist_ok=True)
    study = params.load(FOLDER / params.PARAMS)
    write_study(in_bfloat16(study, variants), FOLDER)
    for variant in variants:
        run(sys.executable, "-m", "stages.train", variant)
    for variant in variants:
        run(sys.executable, "-m", "stages.evaluate", variant)
    compare = [sys.executable, "-m", "tools.compare", "HEAD", "--markdown"]
    return subprocess.run(
        compare, cwd=FOLDER, env=environment(FOLDER), stdout=subprocess.PIPE, text=True, check=True
    ).stdout


def page(difference: str) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in installed_versions(backend()).items())
    return f"""\
# What bfloat16 does to the accuracy

Written by `python -m benchmarks.precision`: every seed of the study trained anew with `precision: {BFLOAT16}`, nothing
else changed, against the committed runs in float32. {processor_name()}; Python {platform.python_version()}, {versions}.
How much faster an epoch is stands in [README.md](README.md).

{difference}"""


@console.command
def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.precision", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("variants", nargs="*", default=VARIANTS, help=f"networks; by default {' and '.join(VARIANTS)}")
    variants = parser.parse_args().variants
    in_bfloat16(params.load(), variants)  # or an error before anything is done
    require_data()
    files.write_bytes(REPORT, page(train(variants)).encode())
    print(f"written: {REPORT}")


if __name__ == "__main__":
    main()
