"""A gate for changes: which verdicts let a command fail, and what its exit status says.

0: the gate is open, or none was asked for. 1: it is shut. 2: the command itself failed.
"""

import argparse
import functools
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from stages import terminal
from stages.errors import StudyError

UNCHANGED, NOT_COMPARED, NOT_RETRAINED, REMOVED, NEW = "unchanged", "not compared", "not retrained", "removed", "new"
# What can't be judged is no way round: a variant whose runs are lost, or are not those of its recipe, shuts every gate.
HIDDEN = {NOT_COMPARED, NOT_RETRAINED}
SHUT_FOR = {
    "worse": {"worse", *HIDDEN},
    "undecided": {"worse", "undecided", NEW, *HIDDEN},  # the stricter of the two lets nothing worse pass
    "not-better": {"worse", "undecided", "equivalent", UNCHANGED, NEW, *HIDDEN},
}
MOST = 10  # reasons or names that are said; the table and the JSON have all


@dataclass(frozen=True)
class Finding:
    """What is known of a variant.

    verdict: one of `sequential.VERDICTS`; UNCHANGED; NOT_COMPARED, whose runs are lost; NOT_RETRAINED, whose runs are
        of another recipe; REMOVED, on purpose; NEW, without former runs.
    why: the difference and its interval, or what is missing.
    """

    variant: str
    verdict: str
    why: str


@dataclass(frozen=True)
class Reason:
    """Why the gate is shut; `variant` is None where there is none to be judged."""

    variant: str | None
    verdict: str
    rule: str
    why: str

    def __str__(self) -> str:
        return f"{self.variant or 'no variant'} is {self.verdict}: {self.why}"


@dataclass(frozen=True)
class Gate:
    """Which verdicts shut it, and the variants that it looks at: all where `watch` is empty.

    watch: names, or lists of names with commas between.
    """

    fail_on: tuple[str, ...]
    watch: tuple[str, ...]

    def reasons(self, findings: Sequence[Finding]) -> list[Reason]:
        """One for each variant that shuts it, under the first rule that does.

        Where only what is watched may fail, what is watched must be there: a variant that can't be compared any more
        shuts every gate that names it. And whoever claims something better must have changed something.

        Raises:
            StudyError: a variant that is watched is not among the findings.
        """
        names = list(dict.fromkeys(found.variant for found in findings))
        watched = self._watched(names)
        if (unknown := sorted(watched - {*names})) and self.fail_on:
            raise StudyError(
                f"--watch should name variants that are judged here ({', '.join(_first(names))}), got {unknown}"
            )
        judged = [found for found in findings if not watched or found.variant in watched]
        shut = [reason for found in judged if (reason := self._reason(found))]
        changed = any(found.verdict not in (UNCHANGED, REMOVED) for found in judged)
        if "not-better" in self.fail_on and not self.watch and not changed:
            shut.append(Reason(None, "changed", "not-better", "a change that claims something better shows none"))
        return shut

    def _watched(self, names: Sequence[str]) -> set[str]:
        """The names that are asked for; a name may have commas itself."""
        lists = [[text] if text in names else text.split(",") for text in self.watch]
        return {name.strip() for parts in lists for name in parts} - {""}

    def _reason(self, found: Finding) -> Reason | None:
        for rule in self.fail_on:
            lost = bool(self.watch) and found.verdict in (NEW, REMOVED)
            claimed = found.verdict != UNCHANGED or bool(self.watch)
            if lost or (found.verdict in SHUT_FOR[rule] and claimed):
                return Reason(found.variant, found.verdict, rule, found.why)
        return None


def add_arguments(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--fail-on",
        metavar="VERDICT,…",
        type=terminal.listed,
        action="extend",
        default=[],
        help=f"exit with status 1 where a variant is so: {', '.join(SHUT_FOR)} (which needs a change); may be repeated",
    )
    parser.add_argument(
        "--watch",
        metavar="NAME,…",
        action="append",
        default=[],
        help="a variant that --fail-on looks at, or several with commas between; may be repeated",
    )


def from_arguments(arguments: argparse.Namespace) -> Gate:
    """The gate that the arguments of `add_arguments` ask for.

    Raises:
        StudyError: a verdict is unknown, or variants are watched for nothing.
    """
    rules = arguments.fail_on
    if unknown := [rule for rule in rules if rule not in SHUT_FOR]:
        raise StudyError(f"--fail-on should be of {', '.join(SHUT_FOR)}, received {', '.join(map(repr, unknown))}")
    watch = tuple(text.strip() for text in arguments.watch if text.strip(" ,"))
    if watch and not rules:
        raise StudyError("--watch says which variants --fail-on looks at: give --fail-on too")
    return Gate(tuple(dict.fromkeys(rules)), watch)


def as_json(gate: Gate, reasons: Sequence[Reason]) -> dict[str, Any]:
    return {
        "fail_on": list(gate.fail_on),
        "watch": list(gate.watch),
        "failed": bool(reasons),
        "reasons": [asdict(reason) for reason in reasons],
    }


def lines(gate: Gate, reasons: Sequence[Reason]) -> list[str]:
    """What the gate says, a line for each of the first reasons; nothing where none was asked for."""
    if not gate.fail_on:
        return []
    asked = f"--fail-on {','.join(gate.fail_on)}" + "".join(f" --watch {name}" for name in gate.watch)
    return [f"gate {'failed' if reasons else 'passed'} ({asked})", *_first([*map(str, reasons)])]


def _first(texts: Sequence[str]) -> list[str]:
    """Some of them, and how many more there are."""
    return [*texts[:MOST], *([f"and {len(texts) - MOST:,} more"] if len(texts) > MOST else [])]


def undecided(n: int, about: int | None, most: int | None) -> str:
    """How much longer an undecided question will probably take."""
    if n < 2:
        return "an interval needs two runs at least"
    if about is None and most is None:
        return f"undecided after {n} seeds, and no number of seeds can be named that would probably decide it"
    probably = f"about {about:,} would probably decide it" if about else "no difference as small as seen is decided"
    return f"undecided after {n} seeds: {probably}" + (f", {most:,} at most if the spread stays" if most else "")


def close(reasons: Sequence[Reason], says: Sequence[str]) -> None:
    """Exit with status 1 where there are reasons, and repeat them where no terminal showed the output."""
    if reasons:
        if sys.stdout is None or not sys.stdout.isatty():  # None: closed, as by >&-
            print("\n".join(says), file=sys.stderr)
        sys.exit(1)


def command(main: Callable[[], None]) -> Callable[[], None]:
    """`terminal.command`, but an error is status 2: 1 is the gate's."""
    guarded = terminal.command(main)

    @functools.wraps(main)
    def run() -> None:
        try:
            guarded()
        except SystemExit as ended:
            if not isinstance(ended.code, str):
                raise
            print(ended.code, file=sys.stderr)
            sys.exit(2)
        except Exception as error:  # noqa: BLE001  # a fault of ours must not pass for a verdict
            terminal.print_traceback(error)
            sys.exit(2)

    return run
