"""What is decided: variants, their comparisons or their race, the levels of these, and the results from a store."""

import json
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from many_seeds import files, ledger
from many_seeds.comparisons import TIED, compare_runs, remarks
from many_seeds.errors import UserError
from many_seeds.growth import FIRST_LOOK
from many_seeds.ledger import Asked, Row, pair_identity, race_identity
from many_seeds.output.messages import counted, listed
from many_seeds.races import RaceResult, standing
from many_seeds.results import UNCHANGED, Pair, Result, Results, Settings
from many_seeds.running.runs import Run
from many_seeds.running.store import Store
from many_seeds.sources.scores import VariantScores
from many_seeds.sources.shapes import SEED

DATA = "runs"  # the name of the data set in the ledger of a store
RACE = "race"  # the name of a race
NEW = "another store"
LATER = "seeds count from seed {} on, since scores of several variants were known when the race was asked"
WAITING = "no interval before all {} seeds exist, since the fixed design is for one look: {}"

Known = dict[str, dict[str, Any]]  # variant → fields, command, and fixed: the number of seeds in the fixed design


@dataclass(frozen=True)
class Study:
    """Variants of training code, and what is asked about them.

    Attributes:
        variants: variant → its fields.
        command: the command that trains them; None for a function.
        pairs: the comparisons (a, b); empty for a race of all variants.
        score: the score by which variants are compared.
        settings: how they are compared.
        store: of the scores.
        fixed: the number of seeds of each variant in the fixed design; None in the open one.
    """

    variants: Mapping[str, Mapping[str, Any]]
    command: Sequence[str] | None
    pairs: Sequence[Pair]
    score: str
    settings: Settings
    store: Store
    fixed: int | None = None

    @property
    def compared(self) -> list[str]:
        """The variants of the comparisons, or of the race."""
        return list(dict.fromkeys(name for pair in self.pairs for name in pair)) if self.pairs else [*self.variants]

    @property
    def ledger_path(self) -> Path:
        return self._beside("comparisons.csv")

    @property
    def known_path(self) -> Path:
        return self._beside("variants.json")

    def _beside(self, ending: str) -> Path:
        """A file of this store only: lr_0.1 and lr_0.2, or runs.csv, runs.tsv and runs, share none."""
        path = self.store.path
        return path.with_suffix(f".{ending}") if path.suffix == ".csv" else path.with_name(f"{path.name}_{ending}")

    def preview(self) -> list[Row]:
        """The ledger with what is asked now; nothing is written.

        As long as the store has no score, the ledger starts anew.

        Raises:
            UserError: a file beside the store is missing or damaged, a variant of the store had other fields, another
                command or another fixed number of seeds, or the ledger has another confidence or design.
        """
        known = {name: entry for name, entry in self._known().items() if self.store.seeds(name)}
        if unknown := [name for name in self.store.variants() if name not in known]:
            raise UserError(
                f"{self.store.path} has scores of {listed(unknown)}, which {self.known_path} does not describe: "
                f"restore this file, or name {NEW}"
            )
        rows = self._rows() if known else []
        self._check_unchanged(known)
        settings = self.settings
        ledger.check(
            rows,
            data=DATA,
            alpha=settings.alpha,
            design=settings.design,
            source=str(self.ledger_path),
            new_ledger=NEW,
        )
        seen: dict[str, int] = {}  # all scores of a store count as seen
        for name, entry in known.items():
            one = _identity(entry["fields"], entry["command"])
            seen[one] = max(self.store.seeds(name), seen.get(one, 0))
        return ledger.ask(rows, self._asked(), seen, data=DATA, alpha=settings.alpha, design=settings.design)

    def enter(self) -> None:
        """Enter what is asked in the ledger, and the variants beside it, before scores are seen.

        Raises:
            UserError: see `preview`; or a file can't be written.
        """
        with self.store.locked():
            rows = self.preview()
            files.write_bytes(self.ledger_path, ledger.to_csv(rows).encode())
            self._write_known()

    def results(self, rows: Sequence[Row]) -> Results | RaceResult:
        """The results from the present scores, of the seeds up to the first one without a score.

        Args:
            rows: of `preview`.
        """
        scores = {name: self.store.scores(name, self.score) for name in self.compared}
        by_identity = {row.identity: row for row in rows if row.data == DATA}
        if not self.pairs:
            return self._race(scores, by_identity[self._race_identity()])
        items = [self._compared(pair, scores, by_identity[self._pair_identity(pair)]) for pair in self.pairs]
        tied = [f"{one.a}:{one.b}" for one in items if one.tied]
        found = list(remarks(items))
        if tied:
            found.append(TIED.format(listed(tied)))
        if waiting := self._waiting(scores):
            found.append(WAITING.format(self.fixed, listed(waiting)))
        found += self._remarks()
        family = sum(row.kind == "comparison" for row in by_identity.values())
        return Results(self.score, self.settings, tuple(items), tuple(found), family=family)

    def _compared(self, pair: Pair, scores: Mapping[str, np.ndarray], row: Row) -> Result:
        a, b = (VariantScores(np.arange(len(scores[name])), scores[name]) for name in pair)
        n = min(len(a.seeds), len(b.seeds))
        if n < (self.fixed or 1):  # an interval of the fixed design is for one look, at all seeds
            bounds, known = (math.nan, -math.inf, math.inf), max(0, n - row.from_seed)
            return Result(
                *pair, known, *bounds, "undecided", None, None, known, known, paired=True, tied=False, level=row.level,
                from_seed=row.from_seed,
            )  # fmt: skip
        result = compare_runs(*pair, a, b, level=row.level, settings=self.settings, from_seed=row.from_seed)
        if result.n >= FIRST_LOOK and np.array_equal(a.scores[row.from_seed : n], b.scores[row.from_seed : n]):
            return replace(result, verdict=UNCHANGED, seeds_projected=None, seeds_worst_case=None)
        return result

    def _waiting(self, scores: Mapping[str, np.ndarray]) -> list[str]:
        """The comparisons of the fixed design that lack seeds."""
        missing = {pair: (self.fixed or 0) - min(len(scores[name]) for name in pair) for pair in self.pairs}
        return [f"{a}:{b} ({count} missing)" for (a, b), count in missing.items() if count > 0]

    def _race(self, scores: Mapping[str, np.ndarray], row: Row) -> RaceResult:
        settings = self.settings
        found = standing(
            scores,
            level=row.level,
            margin=settings.margin,
            resolution=settings.resolution,
            first_seed=row.from_seed,
            lower_is_better=settings.lower_is_better,
        )
        later = [LATER.format(row.from_seed)] if row.from_seed else []
        return RaceResult(RACE, found, settings, row.level, row.from_seed, scores, (*later, *self._remarks()))

    def _remarks(self) -> list[str]:
        """What a reader needs to know about the runs, one sentence each."""
        failed = self.failures()
        commits = self.store.commits(self.compared)
        found = []
        if failed:
            runs_by_reason: dict[str, list[str]] = {}
            for run, reason in failed.items():
                runs_by_reason.setdefault(reason, []).append(str(run))
            names = listed([f"{listed(runs)} ({reason})" for reason, runs in runs_by_reason.items()])
            found.append(
                f"{counted(len(failed), 'failed run')}, without a score: {names}. The seeds of a variant before its "
                "first failed run count; the next call trains failed runs again with the same seeds"
            )
        if len(commits) > 1:
            found.append(f"the runs were made with several commits: {listed(commits)}; a + stands for changed files")
        return found

    def failures(self) -> dict[Run, str]:
        """Failed run → why, of the variants that are compared."""
        return {run: why for run, why in self.store.failures().items() if run.variant in self.compared}

    def _asked(self) -> list[Asked]:
        margin = self.settings.margin
        if not self.pairs:
            members = tuple(map(self._variant_identity, self.compared))
            return [Asked("race", " ".join(self.compared), "", self.score, margin, self._race_identity(), members)]
        return [
            Asked(
                "comparison",
                *pair,
                self.score,
                margin,
                self._pair_identity(pair),
                tuple(map(self._variant_identity, pair)),
            )
            for pair in self.pairs
        ]

    def _variant_identity(self, name: str) -> str:
        return _identity(self.variants[name], self.command)

    def _pair_identity(self, pair: Pair) -> str:
        a, b = map(self._variant_identity, pair)
        return pair_identity(a, b, self.score)

    def _race_identity(self) -> str:
        return race_identity(map(self._variant_identity, self.compared), self.score)

    def _rows(self) -> list[Row]:
        try:
            return ledger.parse(self.ledger_path.read_text(encoding="utf-8"), str(self.ledger_path))
        except FileNotFoundError:
            return []

    def _known(self) -> Known:
        try:
            known: Known = json.loads(self.known_path.read_bytes())
            valid = all({"fields", "command", "fixed"} <= entry.keys() for entry in known.values())
        except FileNotFoundError:
            return {}
        except (ValueError, AttributeError):
            valid = False
        if not valid:
            raise UserError(
                f"{self.known_path} should map each variant to its fields, command and fixed: restore the file, or "
                f"name {NEW}"
            )
        return known

    def _check_unchanged(self, known: Known) -> None:
        for name in filter(known.__contains__, self.compared):
            entry = known[name]
            if entry["fixed"] != self.fixed and self.fixed is not None:
                raise UserError(
                    f"the fixed design is for one look at a number of seeds that was fixed before: {name} of "
                    f"{self.store.path} has {entry['fixed'] or 'the open design'}, received most={self.fixed}. "
                    f"Name {NEW}"
                )
            if _identity(entry["fields"], entry["command"]) != self._variant_identity(name):
                former, present = (entry["fields"], entry["command"]), (dict(self.variants[name]), self.command)
                raise UserError(
                    f"{self.store.path} has runs of another variant {name}: {_described(*former)}; received "
                    f"{_described(*present)}. Give it another name, or name {NEW}"
                )

    def _write_known(self) -> None:
        command = None if self.command is None else list(self.command)
        here = {
            name: {"fields": dict(self.variants[name]), "command": command, "fixed": self.fixed}
            for name in self.compared
        }
        files.write_bytes(self.known_path, (json.dumps(self._known() | here, indent=2, default=_plain) + "\n").encode())


def check_variants(variants: Any) -> dict[str, dict[str, Any]]:
    """Variant → its fields, with names as text.

    Raises:
        UserError: it is no mapping of mappings, a name or a value can't be written to a file, or two are equal.
    """
    if not isinstance(variants, Mapping) or not all(isinstance(fields, Mapping) for fields in variants.values()):
        raise UserError(f"variants should map each name to its fields, received {variants!r}")
    checked = {str(name): {str(key): each for key, each in fields.items()} for name, fields in variants.items()}
    identities: dict[str, str] = {}
    for name, fields in checked.items():
        if not name.strip() or name != name.strip() or not name.isprintable():
            raise UserError(f"names of variants should be printable text without blanks around it, received {name!r}")
        if SEED in fields:
            raise UserError(f"variant {name} can't have the field {SEED}, which each run gets by itself")
        try:
            one = _identity(fields, None)
        except TypeError as error:
            raise UserError(
                f"the fields of {name} should be numbers, texts, booleans, or lists and mappings of these, received "
                f"{fields!r}: give names in place of objects"
            ) from error
        if one in identities:
            raise UserError(f"{identities[one]} and {name} have the same fields, so their runs would be equal")
        identities[one] = name
    return checked


def _identity(fields: Mapping[str, Any], command: Sequence[str] | None) -> str:
    """A digest of what decides the runs of a variant, as far as it is known.

    Raises:
        TypeError: a value has no form in JSON.
    """
    plain = [dict(fields), None if command is None else list(command)]
    return ledger.identity(json.dumps(plain, sort_keys=True, default=_plain))


def _described(fields: Mapping[str, Any], command: Sequence[str] | None) -> str:
    return json.dumps(fields, default=_plain) + (f" with {shlex.join(command)}" if command else "")


def _plain(value: Any) -> Any:
    """A scalar of NumPy as a number.

    Raises:
        TypeError: the value is of another type.
    """
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} has no form in JSON")
