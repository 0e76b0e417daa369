"""A gate for changes: which verdicts make a command fail, and its exit status.

Exit status 0: the gate passes, or there is none. 1: it fails. 2: the command ended with an error.
"""

import argparse
import functools
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from many_seeds.commands import console
from many_seeds.errors import UserError
from many_seeds.output import text
from many_seeds.output.messages import listed
from many_seeds.results import UNCHANGED, Results

NOT_COMPARED, NOT_RETRAINED, REMOVED, NEW = "not compared", "not retrained", "removed", "new"
# A variant whose runs are missing, or not those of its recipe, fails every gate: removing runs must not pass one.
WITHOUT_RUNS = {NOT_COMPARED, NOT_RETRAINED}
FAILS = {
    "worse": {"worse", *WITHOUT_RUNS},
    "undecided": {"worse", "undecided", NEW, *WITHOUT_RUNS},
    "not-better": {"worse", "undecided", "equivalent", UNCHANGED, NEW, *WITHOUT_RUNS},
}
MAX_REASONS = 10  # in a message; the JSON has all


@dataclass(frozen=True)
class Finding:
    """The verdict on a variant.

    Attributes:
        variant: its name.
        verdict: the verdict of a result; or "not compared" (without runs), "not retrained" (with the runs of another
            recipe), "removed" (with its recipe) or "new" (without earlier runs).
        why: the difference and its interval, or what is missing.
    """

    variant: str
    verdict: str
    why: str


@dataclass(frozen=True)
class Reason:
    """Why the gate fails.

    Attributes:
        variant: the name of the variant, or None if no variant is meant.
        verdict: as in `Finding`.
        rule: the rule of --fail-on that is violated.
        why: as in `Finding`.
    """

    variant: str | None
    verdict: str
    rule: str
    why: str

    def __str__(self) -> str:
        return f"{self.variant or 'no variant'} is {self.verdict}: {self.why}"


@dataclass(frozen=True)
class Gate:
    """The verdicts that fail, and the variants that are judged.

    Attributes:
        fail_on: rules, keys of `FAILS`.
        watch: names of variants, or names with commas between; empty for all variants.
    """

    fail_on: tuple[str, ...]
    watch: tuple[str, ...]

    def reasons(self, findings: Sequence[Finding]) -> list[Reason]:
        """Why the gate fails: a reason for each variant that violates a rule, by the first such rule.

        A watched variant must be compared: a new or removed one fails. Under "not-better", something must have changed.

        Args:
            findings: the verdicts on all variants.

        Returns:
            The reasons; empty if the gate passes.

        Raises:
            UserError: a watched variant is not among the findings.
        """
        judged = self._judged(findings) if self.fail_on else []
        reasons = [reason for finding in judged if (reason := self._reason(finding))]
        if "not-better" in self.fail_on and not self.watch and not any(map(_changed, judged)):
            reasons.append(Reason(None, "changed", "not-better", "not-better expects an improvement"))
        return reasons

    def _judged(self, findings: Sequence[Finding]) -> list[Finding]:
        names = list(dict.fromkeys(finding.variant for finding in findings))
        watched = self._watched(names)
        if unknown := sorted(watched - set(names)):
            raise UserError(
                f"--watch should name variants that are compared ({listed(names)}), received {listed(unknown)}"
            )
        return [finding for finding in findings if not watched or finding.variant in watched]

    def _watched(self, names: Sequence[str]) -> set[str]:
        """The watched names; one that has commas is not split."""
        parts = [[text] if text in names else text.split(",") for text in self.watch]
        return {name.strip() for part in parts for name in part} - {""}

    def _reason(self, finding: Finding) -> Reason | None:
        violated = (rule for rule in self.fail_on if self._violates(finding.verdict, rule))
        rule = next(violated, None)
        return None if rule is None else Reason(finding.variant, finding.verdict, rule, finding.why)

    def _violates(self, verdict: str, rule: str) -> bool:
        if self.watch and verdict in (NEW, REMOVED):
            return True
        # An unchanged variant is expected to be better only if it is watched.
        return verdict in FAILS[rule] and (verdict != UNCHANGED or bool(self.watch))


def _changed(finding: Finding) -> bool:
    return finding.verdict not in (UNCHANGED, REMOVED)


def findings(results: Results) -> list[Finding]:
    """The verdicts on b, one for each result."""
    found = []
    for result, form in zip(results, text.number_forms(results), strict=True):
        difference, interval = text.number(result.difference, form), text.interval(result, form)
        why = f"{difference} against {result.a}, interval {interval}"
        if result.verdict == UNCHANGED:
            why = f"the same score as {result.a} in every seed"
        elif result.verdict == "undecided":
            why += f"; {text.undecided(result)}"
        found.append(Finding(result.b, result.verdict, why))
    return found


def add_arguments(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--fail-on",
        metavar="VERDICT,…",
        type=console.names,
        action="extend",
        default=[],
        help=f"exit with status 1 if a variant is {', '.join(FAILS)} (for a change that claims an improvement); may be "
        "repeated",
    )
    parser.add_argument(
        "--watch",
        metavar="NAME,…",
        action="append",
        default=[],
        help="variants that --fail-on judges, by default all; may be repeated",
    )
    parser.add_argument(
        "--among",
        metavar="K",
        type=_count,
        default=1,
        help="this change is one of K, as of a year: each gets 1/K of the error probability, so that all verdicts on "
        "the K changes hold simultaneously (default: 1)",
    )


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"should be a whole number from 1, received {text!r}")
    return int(text)


def confidence_among(confidence: float, changes: int) -> float:
    """The confidence of one change, so that the verdicts on all of them hold simultaneously with `confidence`."""
    return 1 - round(1 - confidence, 12) / changes


def from_arguments(arguments: argparse.Namespace) -> Gate:
    """The gate of the arguments that `add_arguments` adds.

    Raises:
        UserError: a rule is unknown, or --watch is given without --fail-on.
    """
    rules = arguments.fail_on
    if unknown := [rule for rule in rules if rule not in FAILS]:
        raise UserError(f"--fail-on should be one of {', '.join(FAILS)}, received {', '.join(map(repr, unknown))}")
    watch = tuple(text.strip() for text in arguments.watch if text.strip(" ,"))
    if watch and not rules:
        raise UserError("--watch chooses the variants that --fail-on judges: give --fail-on too")
    return Gate(tuple(dict.fromkeys(rules)), watch)


def as_json(gate: Gate, reasons: Sequence[Reason]) -> dict[str, Any]:
    return {
        "fail_on": list(gate.fail_on),
        "watch": list(gate.watch),
        "failed": bool(reasons),
        "reasons": [asdict(reason) for reason in reasons],
    }


def lines(gate: Gate, reasons: Sequence[Reason]) -> list[str]:
    """Whether the gate passes, and the first reasons, a line each; no lines if there is no rule."""
    if not gate.fail_on:
        return []
    options = f"--fail-on {','.join(gate.fail_on)}" + "".join(f" --watch {name}" for name in gate.watch)
    lines = [f"gate {'failed' if reasons else 'passed'} ({options})", *map(str, reasons[:MAX_REASONS])]
    if len(reasons) > MAX_REASONS:
        lines.append(f"and {len(reasons) - MAX_REASONS:,} more")
    return lines


def close(reasons: Sequence[Reason], lines: Sequence[str]) -> None:
    """Exit with status 1 if there are reasons; print them to standard error if standard output is not a terminal."""
    if reasons:
        if sys.stdout is None or not sys.stdout.isatty():  # None: the shell closed it, as with >&-
            print("\n".join(lines), file=sys.stderr)
        sys.exit(1)


def command(main: Callable[[], None]) -> Callable[[], None]:
    """`console.command` with status 2 for an error, since 1 means that the gate fails."""
    guarded = console.command(main)

    @functools.wraps(main)
    def run() -> None:
        try:
            guarded()
        except SystemExit as ended:
            if not isinstance(ended.code, str):
                raise
            print(ended.code, file=sys.stderr)
            sys.exit(2)
        except Exception as error:  # noqa: BLE001  # the status of a bug must not be that of a verdict
            console.print_traceback(error)
            sys.exit(2)

    return run
