"""The results of checks as text: a table, and what to do next."""

from collections.abc import Iterator, Sequence

from many_seeds.output import text
from stages.recipes.shared.training import backend
from stages.study.provenance import environments
from stages.study.provenance.environments import CERTIFIED, LOCKED, Environment, Part
from tools.certify.check import CheckResult

HEADER = ("variant", "part", "seeds", "compared", "result", "seconds")


def conclusion(result: CheckResult) -> str:
    """The result of a check in a line."""
    if result.different is not None:
        return f"different, {result.different}"
    texts = [f"{' and '.join(result.same)} the same ({result.how})"] if result.same else []
    texts += [f"{part} not checked: {reason}" for part, reason in result.unchecked.items()]
    return "; ".join(texts)


def report(results: Sequence[CheckResult]) -> str:
    """A table of the checks, and the size of the sample if not all runs were compared."""
    rows = [_row(result, part) for result in results for part in result.check.parts]
    compared = [result.check for result in results if result.compared]
    k, n = sum(len(check.seeds) for check in compared), sum(len(check.rows) for check in compared)
    lines = [text.aligned(HEADER, rows, left=len(HEADER))]
    if 0 < k < n:
        lines.append(f"A sample of {k} of {n} runs was compared: a difference in another run would not be found.")
    return "\n".join(lines)


def _row(result: CheckResult, part: Part) -> list[str]:
    check = result.check
    if part in result.unchecked:
        return [check.variant, part, "", f"0 of {check.counts[part]}", "not checked", ""]
    if result.different is not None and part != check.parts[0]:  # the first difference ends the comparison
        return [check.variant, part, "", f"0 of {check.counts[part]}", "not compared", ""]
    verdict = "different" if result.different is not None else "the same"
    seeds = " ".join(map(str, check.seeds))
    compared = f"{len(check.seeds)} of {check.counts[part]}"
    return [check.variant, part, seeds, compared, verdict, f"{result.seconds:.0f}"]


def advice(results: Sequence[CheckResult]) -> Iterator[str]:
    """What to do after the checks, a line each."""
    for result in results:
        yield from _advice_on(result)
    if changes := _packages_not_locked():
        yield f"The installed packages are not those of {LOCKED}, which `dvc repro` expects: {', '.join(changes)}."
    if any(result.certified_stale for result in results):
        yield (
            "Next: `dvc repro --allow-missing`, which runs the stage `code` and trains nothing that is certified"
            f"{_others(results)}; then `git add --all` and a commit."
        )


def _others(results: Sequence[CheckResult]) -> str:
    """The checked variants that stay stale, which `dvc repro` makes again, as the end of a sentence."""
    stale = dict.fromkeys(each.check.variant for each in results if not {*each.check.stale} <= {*each.same})
    return f", and trains or evaluates again what stays stale: {', '.join(stale)}" if stale else ""


def _advice_on(result: CheckResult) -> Iterator[str]:
    variant = result.check.variant
    if result.different is not None and result.check.stale:
        yield f"{variant} stays stale: {result.different}"
    elif result.different is not None:
        yield (
            f"{variant} differs from the recorded results of the same environment: {result.different}. If a result was "
            f"edited, restore it with git; if a row of {CERTIFIED} is wrong, delete it"
        )
    for reason in dict.fromkeys(result.unchecked.values()):
        parts = " and ".join(part for part, why in result.unchecked.items() if why == reason)
        yield f"{variant}, {parts}: not checked: {reason}"


def _packages_not_locked() -> list[str]:
    """How the installed packages differ from the locked ones."""
    if not LOCKED.exists():
        return []
    locked = Environment("", environments.locked_versions(keras_backend=backend()))
    return locked.differences(Environment("", environments.installed_versions(backend())), "train")
