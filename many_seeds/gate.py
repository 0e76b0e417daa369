"""A gate for changes: which verdicts make a command fail, and its exit status.

0: passed, or no gate was asked for. 1: failed. 2: the command itself failed.
"""

import argparse
import functools
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from many_seeds import console, text
from many_seeds.comparisons import UNCHANGED, Results
from many_seeds.errors import UserError

NOT_COMPARED, NOT_RETRAINED, REMOVED, NEW = "not compared", "not retrained", "removed", "new"
# A variant whose runs are lost, or are not those of its recipe, fails every gate: else it would be a way around it.
HIDDEN = {NOT_COMPARED, NOT_RETRAINED}
FAILS = {
    "worse": {"worse", *HIDDEN},
    "undecided": {"worse", "undecided", NEW, *HIDDEN},  # the stricter of the two includes worse
    "not-better": {"worse", "undecided", "equivalent", UNCHANGED, NEW, *HIDDEN},
}
SHOWN = 10  # reasons or names in a message; the table and the JSON have all


@dataclass(frozen=True)
class Finding:
    """What is known of a variant.

    Attributes:
        variant: its name.
        verdict: a verdict; or "not compared" (its runs are lost), "not retrained" (its runs are of another recipe),
            "removed" (on purpose) or "new" (without earlier runs).
        why: the difference and its interval, or what is missing.
    """

    variant: str
    verdict: str
    why: str


@dataclass(frozen=True)
class Reason:
    """Why the gate fails.

    Attributes:
        variant: its name, or None where there is no variant to judge.
        verdict: as in `Finding`.
        rule: of --fail-on, that it violates.
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
        watch: names of variants, or lists of names with commas between; empty for all.
    """

    fail_on: tuple[str, ...]
    watch: tuple[str, ...]

    def reasons(self, findings: Sequence[Finding]) -> list[Reason]:
        """A reason for each variant that fails, by the first rule that it violates.

        A watched variant must be there: one that can't be compared any more fails. Under "not-better" something must
        have changed.

        Raises:
            UserError: a watched variant is not among the findings.
        """
        names = list(dict.fromkeys(found.variant for found in findings))
        watched = self._watched(names)
        if (unknown := sorted(watched - {*names})) and self.fail_on:
            raise UserError(
                f"--watch should name variants that are compared here ({', '.join(_first(names))}), received {unknown}"
            )
        judged = [found for found in findings if not watched or found.variant in watched]
        failed = [reason for found in judged if (reason := self._reason(found))]
        changed = any(found.verdict not in (UNCHANGED, REMOVED) for found in judged)
        if "not-better" in self.fail_on and not self.watch and not changed:
            failed.append(Reason(None, "changed", "not-better", "not-better asks for an improvement"))
        return failed

    def _watched(self, names: Sequence[str]) -> set[str]:
        """The names that are asked for; a name may contain commas."""
        lists = [[text] if text in names else text.split(",") for text in self.watch]
        return {name.strip() for parts in lists for name in parts} - {""}

    def _reason(self, found: Finding) -> Reason | None:
        for rule in self.fail_on:
            lost = bool(self.watch) and found.verdict in (NEW, REMOVED)
            claimed = found.verdict != UNCHANGED or bool(self.watch)
            if lost or (found.verdict in FAILS[rule] and claimed):
                return Reason(found.variant, found.verdict, rule, found.why)
        return None


def findings(results: Results) -> list[Finding]:
    """The verdict on b of each result."""
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
        help=f"exit with status 1 if a variant is {', '.join(FAILS)} (which asks for a change); may be repeated",
    )
    parser.add_argument(
        "--watch",
        metavar="NAME,…",
        action="append",
        default=[],
        help="a variant that --fail-on judges, or several with commas between; may be repeated",
    )


def from_arguments(arguments: argparse.Namespace) -> Gate:
    """The gate that the arguments of `add_arguments` ask for.

    Raises:
        UserError: a verdict is unknown, or --watch is given without --fail-on.
    """
    rules = arguments.fail_on
    if unknown := [rule for rule in rules if rule not in FAILS]:
        raise UserError(f"--fail-on should be of {', '.join(FAILS)}, received {', '.join(map(repr, unknown))}")
    watch = tuple(text.strip() for text in arguments.watch if text.strip(" ,"))
    if watch and not rules:
        raise UserError("--watch says which variants --fail-on judges: give --fail-on too")
    return Gate(tuple(dict.fromkeys(rules)), watch)


def as_json(gate: Gate, reasons: Sequence[Reason]) -> dict[str, Any]:
    return {
        "fail_on": list(gate.fail_on),
        "watch": list(gate.watch),
        "failed": bool(reasons),
        "reasons": [asdict(reason) for reason in reasons],
    }


def lines(gate: Gate, reasons: Sequence[Reason]) -> list[str]:
    """Whether the gate passed, and a line for each of the first reasons; nothing where no gate was asked for."""
    if not gate.fail_on:
        return []
    asked = f"--fail-on {','.join(gate.fail_on)}" + "".join(f" --watch {name}" for name in gate.watch)
    return [f"gate {'failed' if reasons else 'passed'} ({asked})", *_first([*map(str, reasons)])]


def _first(texts: Sequence[str]) -> list[str]:
    """The first of them, and how many more there are."""
    return [*texts[:SHOWN], *([f"and {len(texts) - SHOWN:,} more"] if len(texts) > SHOWN else [])]


def close(reasons: Sequence[Reason], lines: Sequence[str]) -> None:
    """Exit with status 1 if there are reasons, and repeat them where no terminal showed the output."""
    if reasons:
        if sys.stdout is None or not sys.stdout.isatty():  # None: closed, as by >&-
            print("\n".join(lines), file=sys.stderr)
        sys.exit(1)


def command(main: Callable[[], None]) -> Callable[[], None]:
    """`console.command`, with status 2 for an error: 1 is the gate's."""
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
        except Exception as error:  # noqa: BLE001  # a bug must not pass for a verdict
            console.print_traceback(error)
            sys.exit(2)

    return run
