"""Find out whether today's code and packages make the same bits as those that made the results, by a sample.

`python -m tools.certify` trains one seed of each variant anew, in build/certify, whose results were made with other
code or packages. It compares curve, scores, calibration, labels and model with what is recorded, to the bit. Where they
are the same, metrics/certified.csv gets a row, and nothing is trained anew for that change. Where they are not, the
variant stays stale and the first difference is named. Killed, the same command goes on.
"""

import argparse
import os
import sys
from collections.abc import Iterator, Sequence

from many_seeds import console
from stages.recipes.shared.training import backend
from stages.study import environments, params, paths
from stages.study.environments import CERTIFIED, CODE, LOCKED, Environment, Part
from stages.study.models import read_facts
from stages.study.params import Params
from tools.certify import sample
from tools.certify.certificates import append
from tools.certify.check import FOLDER, Result, Study, compared, same_kind, uncheckable
from tools.certify.sample import Check

THREADS = {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "2"}
WORTH = "a sample of {k} of {n} runs was compared, not all: a run outside the sample could differ unseen"


def certify(study: Params, checks: Sequence[Check]) -> list[Result]:
    """Train and compare the samples, and write the certificates.

    Args:
        study: the study.
        checks: what to check.

    Returns:
        What came of each check.

    Raises:
        UserError: the data are missing, or a recorded file is damaged.
    """
    here = Study(study, list(dict.fromkeys(check.variant for check in checks)))
    objections = {id(check): uncheckable(check, here) for check in checks}
    possible = [check for check in checks if objections[id(check)] is None]
    if missing := here.missing(possible):
        print(f"training {len(missing)} runs in {FOLDER}", flush=True)
    here.train(possible)
    results = [
        Result(check, unchecked=dict.fromkeys(check.parts, reason))
        for check in checks
        if (reason := objections[id(check)]) is not None
    ]
    for result in compared(possible, here) if possible else ():
        write(result)
        print(f"{result.check.variant}: {conclusion(result)}", flush=True)
        results.append(result)
    return results


def write(result: Result) -> None:
    """Write the certificates of a check, none where anything differs."""
    check = result.check
    for part in result.same:
        here, root = check.here[part], check.roots[part]
        append(check.variant, part, here, root, check.seeds, check.counts[part], result.how)


def conclusion(result: Result) -> str:
    """What came of a check, in words."""
    if result.different is not None:
        return f"different, {result.different}"
    said = [f"{' and '.join(result.same)} the same ({result.how})"] if result.same else []
    return "; ".join([*said, *(f"{part} not checked: {reason}" for part, reason in result.unchecked.items())])


def report(results: Sequence[Result]) -> str:
    """A table of the checks, and what it is worth."""
    lines: list[tuple[str, ...]] = [("variant", "part", "seeds", "compared", "result", "seconds")]
    for result in results:
        for part in result.check.parts:
            lines.append(_line(result, part))
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    table = ["  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    compared = [result.check for result in results if not result.unchecked or result.same or result.different]
    k, n = sum(len(check.seeds) for check in compared), sum(len(check.rows) for check in compared)
    return "\n".join([*table, *([WORTH.format(k=k, n=n)] if 0 < k < n else [])])


def _line(result: Result, part: Part) -> tuple[str, ...]:
    check = result.check
    if part in result.unchecked:
        return check.variant, part, "", f"0 of {check.counts[part]}", "not checked", ""
    word = "different" if result.different is not None else "the same"
    seeds = " ".join(map(str, check.seeds))
    return check.variant, part, seeds, f"{len(check.seeds)} of {check.counts[part]}", word, f"{result.seconds:.0f}"


def advice(results: Sequence[Result]) -> Iterator[str]:
    """What to do after the checks, a line each."""
    for result in results:
        if result.different is not None and result.check.stale:
            yield f"{result.check.variant} stays stale: {result.different}"
        elif result.different is not None:
            yield (
                f"{result.check.variant} is not what its environment makes here: {result.different}. A result was "
                f"edited, or a row of {CERTIFIED} is wrong: restore the one with git, or delete the other"
            )
        for reason in dict.fromkeys(result.unchecked.values()):
            parts = " and ".join(part for part, why in result.unchecked.items() if why == reason)
            yield f"{result.check.variant}, {parts}: not checked: {reason}"
    if changes := _not_locked():
        yield f"The installed packages are not those of {LOCKED}, for which `dvc repro` asks: {', '.join(changes)}."
    if any(part in result.check.stale for result in results for part in result.same):
        yield (
            f"Next: `dvc repro`, which runs the stage `code` and trains nothing that is certified; then commit "
            f"{CERTIFIED}, {CODE} and dvc.lock."
        )


def _not_locked() -> list[str]:
    """How the packages that are locked differ from the installed ones."""
    if not LOCKED.exists():
        return []
    locked = Environment("", environments.locked_versions(keras_backend=backend()))
    return locked.differences(Environment("", environments.installed_versions(backend())), "train")


def plan(study: Params, checks: Sequence[Check]) -> str:
    """What would be trained, and about how long it takes.

    Raises:
        UserError: the data are missing.
    """
    here = Study(study, list(dict.fromkeys(check.variant for check in checks)))
    lines = []
    for check in checks:
        reason = uncheckable(check, here)
        if reason is not None:
            lines.append(f"{check.variant}: can't be checked: {reason}")
            continue
        missing = here.missing([check])
        seeds = ", ".join(str(run.seed) for run in missing)
        what = f"seed {seeds} of {len(check.rows)}, {_duration(check, here)}" if missing else "trained already"
        lines.append(f"{check.variant} ({' and '.join(check.parts)}): {what}; {'; '.join(_changes(check))}")
        if any(not same_kind(check, seed) for seed in check.seeds):
            lines.append("  it was made on another processor: where bits differ, the old code trains the seed here too")
    return "\n".join(lines)


def _duration(check: Check, here: Study) -> str:
    run_files = [paths.run_path(check.variant, seed) / "run.json" for seed in range(check.recipe.seeds)]
    took = [read_facts(path.parent)["seconds"] for path in run_files if path.exists()]
    if took:
        return f"about {sum(took) / len(took):.0f} s each"
    return f"about {check.recipe.cost(here.images.shape):.1e} multiplications each"


def _changes(check: Check) -> list[str]:
    return [
        f"{part}: {', '.join(check.roots[part].differences(check.here[part], part)) or 'nothing has changed'}"
        for part in check.parts
    ]


def _count(text: str) -> int | None:
    """The argument of --seeds: a number from 1, or None for all."""
    if text == "all":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 or all, received {text!r}")
    return int(text)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tools.certify", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("variants", nargs="*", help="variants of params.yaml; by default all")
    parser.add_argument(
        "--seeds", type=_count, default=1, metavar="K", help="seeds of each variant and recorded environment, or all"
    )
    parser.add_argument(
        "--all", action="store_true", help="check also what is known to be the same, to look for errors"
    )
    parser.add_argument("--plan", action="store_true", help="say what would be trained, and train nothing")
    return parser.parse_args()


@console.command
def main() -> None:
    arguments = _arguments()
    # Here means this machine, and the executor whose environment the stage `code` names. One thread decides the last
    # bits of a loss; set before TensorFlow is imported.
    os.environ |= {"STUDY_EXECUTOR": "processes", **THREADS}
    study = params.load()
    checks = sample.checks(study, arguments.variants or list(study.variants), arguments.seeds, arguments.all)
    if not checks:
        print("Nothing to certify: the results were made with this code and these packages, or with ones certified.")
    elif arguments.plan:
        print(plan(study, checks))
    else:
        results = certify(study, checks)
        print("\n".join([report(results), *advice(results)]))
        if any(result.different is not None for result in results):
            sys.exit(1)


if __name__ == "__main__":
    main()
