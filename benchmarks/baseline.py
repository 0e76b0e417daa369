"""Compare the training time of networks with that of an older commit, on an idle machine.

`python -m benchmarks.baseline COMMIT` writes benchmarks/BASELINE.md. The two commits train in turn, each with its own
`benchmarks.measure`, on the images in this checkout. All networks take most of an hour.
"""

import argparse
import contextlib
import dataclasses
import platform
import statistics
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ruamel.yaml import YAML

from benchmarks.measure import network_of
from benchmarks.process import measure, processor_name, require_data
from benchmarks.summary import Training, training
from many_seeds.commands import console
from many_seeds.errors import UserError
from many_seeds.statistics import intervals
from stages.recipes.network import Recipe as Network
from stages.study import files, params, paths
from stages.study.params import Params
from stages.study.records.results import read_results
from stages.study.records.splits import read_images

REPORT = Path(__file__).with_name("BASELINE.md")
EPOCHS = 3  # of each measurement; the first is set aside
IMAGES, IMAGES_OF_CONVOLUTIONS = 60_000, 6_000
LEVEL = 0.05  # at which an interval may miss


@dataclasses.dataclass(frozen=True)
class Repeat:
    """All seeds of a variant as measured once at each commit, one straight after the other."""

    old: Training
    new: Training


@contextlib.contextmanager
def checked_out(commit: str) -> Iterator[Path]:
    """A folder with the files of `commit` and the data of this one.

    Raises:
        UserError: there is no such commit, or it has no `benchmarks.measure`.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "commit"
        git("worktree", "add", "--quiet", "--detach", str(folder), commit)
        try:
            if not (folder / "benchmarks/measure.py").exists():
                raise UserError(f"{commit} has no benchmarks/measure.py to measure it with: name a later commit")
            (folder / paths.TRAIN.parent).symlink_to(paths.TRAIN.parent.resolve())
            yield folder
        finally:
            git("worktree", "remove", "--force", str(folder))


def git(*arguments: str) -> str:
    """What git answers.

    Raises:
        UserError: it refuses.
    """
    answer = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        raise UserError(f"`git {' '.join(arguments)}` failed: {answer.stderr.strip()}")
    return answer.stdout.strip()


def same_networks(study: Params, former: dict[str, dict[str, Any]]) -> list[str]:
    """The networks of which the older commit's params.yaml, variant → fields, says what this one says."""
    networks = {name: recipe.model_dump() for name, recipe in study.variants.items() if isinstance(recipe, Network)}
    return [
        name
        for name, fields in networks.items()
        if name in former and all(fields.get(key) == value for key, value in former[name].items() if key != "seeds")
    ]


def take(study: Params, variants: Sequence[str], old: Path, repeats: int) -> dict[str, list[Repeat]]:
    """Variant → repeats, in each of which both commits train every variant."""
    found: dict[str, list[Repeat]] = {variant: [] for variant in variants}
    for repeat in range(1, repeats + 1):
        for variant in variants:
            ways = Repeat(measured(old, variant, study), measured(Path(), variant, study))
            found[variant].append(ways)
            epochs = f"{ways.old.epoch:.2f} s an epoch, {ways.new.epoch:.2f} s now"
            print(f"{repeat} of {repeats}: {variant}: {epochs}", flush=True)
    return found


def measured(folder: Path, variant: str, study: Params) -> Training:
    """What training a variant costs by the code in `folder`, with the images and epochs of the study here."""
    recipe, all_images = network_of(study, variant), len(read_images(paths.TRAIN)[1])
    images = min(all_images, IMAGES_OF_CONVOLUTIONS if recipe.filters else IMAGES)
    size = {"variant": variant, "images": images, "epochs": EPOCHS, "precision": recipe.precision}
    return training(
        measure("pipeline", folder, **size)["runs"],
        workers=1,
        scale=all_images / images,
        epochs=read_results(variant).scores["epochs"].tolist(),
    )


def page(found: dict[str, list[Repeat]], others: Sequence[str], old: str, new: str) -> str:
    """The report.

    Args:
        found: what was measured.
        others: variants that were not.
        old, new: names of the commits.
    """
    repeats = len(next(iter(found.values())))
    rows = [f"| {variant} | {seconds(each)} | {ratio(each)} |" for variant, each in found.items()]
    left = f"\nNot measured, since they are not networks or differ between the commits: {', '.join(others)}.\n"
    return f"""\
# Training time compared with an older commit

Written by `python -m benchmarks.baseline {old}`: each network was trained at {old} and at {new}, in turn, {repeats}
times, each time in new processes, with a seed on each core in parallel. *Epoch* is an epoch of one run, on at most
{IMAGES:,} images, or {IMAGES_OF_CONVOLUTIONS:,} with convolutions; *once* is the time of a run outside its epochs.
Seconds are medians. *New / old* is the ratio of the times for all seeds of the study, computed from these two: the
geometric mean of {repeats} ratios, with its 95 % t interval. Slower or faster: the interval excludes 1. By chance, one
variant in 40 is expected to appear slower.

| variant | epoch: old, s | new, s | once: old, s | new, s | new / old | 95 % | |
| --- | --- | --- | --- | --- | --- | --- | --- |
{chr(10).join(rows)}
{left if others else ""}
{processor_name()}; Python {platform.python_version()}.
"""


def seconds(repeats: Sequence[Repeat]) -> str:
    columns = [
        [repeat.old.epoch for repeat in repeats],
        [repeat.new.epoch for repeat in repeats],
        [repeat.old.one_off for repeat in repeats],
        [repeat.new.one_off for repeat in repeats],
    ]
    return " | ".join(f"{statistics.median(values):.2f}" for values in columns)


def ratio(repeats: Sequence[Repeat]) -> str:
    """New / old, its interval, and what that says."""
    logs = np.log([repeat.new.study / repeat.old.study for repeat in repeats])
    found = intervals.interval(logs, level=LEVEL, resolution=0.0, design="fixed")
    word = "slower" if found.low > 0 else "faster" if found.high < 0 else "no difference beyond the noise"
    low, high = np.exp([found.low, found.high])
    return f"{np.exp(logs.mean()):.2f} × | {low:.2f} … {high:.2f} | {word}"


def repeats_of(text: str) -> int:
    if (repeats := int(text)) < 2:
        raise argparse.ArgumentTypeError(f"expected 2 or more, without which there is no interval, received {text}")
    return repeats


@console.command
def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.baseline", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("commit", help="the older commit")
    parser.add_argument("variants", nargs="*", help="networks in params.yaml (default: all that both commits have)")
    parser.add_argument("--repeats", type=repeats_of, default=5, help="number of repetitions (default: %(default)s)")
    arguments = parser.parse_args()
    study = params.load()
    require_data()
    with checked_out(arguments.commit) as folder:
        former = YAML(typ="safe").load((folder / params.PARAMS).read_text(encoding="utf-8"))["variants"]
        same = same_networks(study, former)
        variants = arguments.variants or same
        if lacking := [variant for variant in variants if variant not in same] or not variants:
            raise UserError(f"expected networks that both commits have alike ({', '.join(same)}), received {lacking}")
        found = take(study, variants, folder, arguments.repeats)
    others = [] if arguments.variants else [variant for variant in study.variants if variant not in variants]
    new = git("describe", "--always", "--dirty", "--exclude=*")
    files.write_bytes(REPORT, page(found, others, git("rev-parse", "--short", arguments.commit), new).encode())
    print(f"written: {REPORT}")


if __name__ == "__main__":
    main()
