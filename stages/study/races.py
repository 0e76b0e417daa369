"""The races of a study in params.yaml, and their state from the scores of runs."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from many_seeds.comparisons import compare_runs
from many_seeds.errors import UserError
from many_seeds.ledger import Row
from many_seeds.output.messages import listed
from many_seeds.races import Standing, standing
from many_seeds.results import Result, Settings
from many_seeds.sources.scores import VariantScores
from stages.study.comparisons import settings_of
from stages.study.params import Params
from stages.study.paths import COMPARISONS
from stages.study.provenance.identities import race_identity, variant_identity
from stages.study.records.results import EvaluatedRuns, diverged_sentence
from stages.study.scores import RACE_SCORES, VALIDATION_ACCURACY, Score

MOST_IMAGES = 100_000  # of a validation split, as far as its size is sought in the accuracies
FIRST_SEEDS = 10  # in which it is sought
ROUNDING = 1e-7  # of an accuracy in float32


@dataclass(frozen=True)
class NamedRace:
    """A race that a study names.

    Attributes:
        name: its name.
        variants: that take part.
        score: a name of `scores.RACE_SCORES`.
        margin: equivalence margin in the unit of the score.
    """

    name: str
    variants: tuple[str, ...]
    score: str
    margin: float

    def variant_identities(self, study: Params) -> tuple[str, ...]:
        return tuple(variant_identity(study.recipe(name), study) for name in self.variants)

    def identity(self, study: Params) -> str:
        """A digest of what the race is, see `identities.race_identity`."""
        return race_identity(self.variant_identities(study), self.score)


@dataclass(frozen=True)
class RaceState:
    """The state of a race of a study.

    Attributes:
        race: the race.
        standing: its state.
        settings: of its comparisons.
        level: the probability of a wrong winner.
        from_seed: lower seeds are not used. Numbers of seeds in `standing` are counted from it on.
        scores: variant → float [seeds], the scores of its seeds from 0 on, in the unit of the margin.
        remarks: what a reader needs to know, one sentence each, as on diverged runs.
    """

    race: NamedRace
    standing: Standing
    settings: Settings
    level: float
    from_seed: int
    scores: Mapping[str, np.ndarray]
    remarks: tuple[str, ...] = ()

    @property
    def score(self) -> Score:
        return RACE_SCORES[self.race.score]

    @property
    def seeds(self) -> int:
        """The number of seeds that all variants in the race have, with those that the race leaves out."""
        return self.from_seed + self.standing.n

    @property
    def seeds_projected(self) -> int | None:
        """The projected number of counted seeds at the end of the race; None if no end is projected.

        A projection from each variant in the race compared with the leader, which the guarantee does not cover.
        """
        pending = [result.seeds_projected for result in self._with_leader() if result.verdict == "undecided"]
        known = [seeds for seeds in pending if seeds is not None]
        return max(known) if known and len(known) == len(pending) else None

    def _with_leader(self) -> list[Result]:
        """The comparison of each variant in the race with the leader; none before the first seed."""
        leader, state = self.standing.leader, self.standing
        if leader is None:
            return []
        seeds = np.arange(self.seeds)
        runs = {name: VariantScores(seeds, self.scores[name][: self.seeds]) for name in state.in_race}
        level = self.level / (len(self.race.variants) - 1)
        return [
            compare_runs(name, leader, of, runs[leader], level=level, settings=self.settings, from_seed=self.from_seed)
            for name, of in runs.items()
            if name != leader
        ]

    def rows(self) -> list[dict[str, Any]]:
        """A row for each variant, the leader first, those that were eliminated first at the end.

        Returns:
            Of each variant: `mean` of its counted scores up to the last common seed, a share as a fraction, None
            without a seed; `seeds`, their number; `state`, a few words; and `eliminated_after`, a number of seeds, and
            `eliminated_by`, None for a variant in the race.
        """
        means = {name: self._counted(name) for name in self.race.variants}
        sign = -1 if self.settings.lower_is_better else 1

        def rank(name: str) -> tuple[bool, float]:
            return name == self.standing.leader, sign * float(means[name].mean()) if len(means[name]) else -np.inf

        ordered = [*sorted(self.standing.in_race, key=rank, reverse=True), *list(self.standing.eliminated)[::-1]]
        return [self._row(name, means[name] / self.score.scale) for name in ordered]

    def _counted(self, name: str) -> np.ndarray:
        return self.scores[name][self.from_seed : self.seeds]

    def _row(self, name: str, values: np.ndarray) -> dict[str, Any]:
        out = self.standing.eliminated.get(name)
        return {
            "variant": name,
            "mean": float(values.mean()) if len(values) else None,
            "seeds": len(values),
            "state": self._state(name),
            "eliminated_after": out.n if out else None,
            "eliminated_by": out.by if out else None,
        }

    def _state(self, name: str) -> str:
        if out := self.standing.eliminated.get(name):
            return f"eliminated after {out.n} seeds by {out.by}"
        leads, ended = name == self.standing.leader, self.standing.ended
        if leads:
            return "winner" if ended else "leader"
        return "equivalent to the winner" if ended else "in the race"


def named_races(study: Params) -> list[NamedRace]:
    """The entries of `races` in params.yaml."""
    default = study.statistics
    return [
        NamedRace(name, tuple(race.variants), race.score or default.score, race.margin or default.equivalence_margin)
        for name, race in study.races.items()
    ]


def race_states(
    runs: Mapping[str, EvaluatedRuns], races: Iterable[NamedRace], study: Params, ledger: Sequence[Row]
) -> list[RaceState]:
    """The state of each race, from its first seed in the ledger on.

    Args:
        runs: variant → its runs.
        races: races of `named_races`.
        study: the content of params.yaml.
        ledger: its rows, with the level and the first seed of each race.

    Raises:
        UserError: a race has no row.
    """
    races = list(races)
    known = {row.identity: row for row in ledger if row.data == study.data.name and not row.withdrawn}
    rows = [known.get(race.identity(study)) for race in races]
    if missing := [race.name for race, row in zip(races, rows, strict=True) if row is None]:
        raise UserError(
            f"{COMPARISONS} should have a row for each race of params.yaml; missing: {listed(missing)}. `dvc repro "
            "ledger` enters them"
        )
    return [_state_of(race, row, runs, study) for race, row in zip(races, rows, strict=True) if row is not None]


def _state_of(race: NamedRace, row: Row, runs: Mapping[str, EvaluatedRuns], study: Params) -> RaceState:
    score, of = RACE_SCORES[race.score], {name: runs[name] for name in race.variants}
    truth = next(iter(of.values())).truth
    values = {name: score.scale * score.values(each) for name, each in of.items()}
    settings = settings_of(study.statistics, score, truth, ordered=True, margin=race.margin)
    if race.score == VALIDATION_ACCURACY:
        settings = replace(settings, resolution=validation_resolution(list(of.values())))
    found = standing(
        values,
        level=row.level,
        margin=race.margin,
        resolution=settings.resolution,
        first_seed=row.from_seed,
        lower_is_better=score.lower_is_better,
    )
    diverged = tuple(filter(None, (diverged_sentence(each, row.from_seed) for each in of.values())))
    return RaceState(race, found, settings, row.level, row.from_seed, values, diverged)


def validation_resolution(runs: Sequence[EvaluatedRuns]) -> float:
    """The worth of one image of the validation splits in their accuracy, in percentage points.

    Results do not have the size of the splits. It is read off the accuracies, which are multiples of 1 / size: for each
    seed, the smallest size that explains the accuracies of all variants, which is the size or, with bad luck, a part of
    it; of several seeds, the largest. If no size does, the splits count as `MOST_IMAGES`.
    """
    first = min(FIRST_SEEDS, *(len(of.seeds) for of in runs))
    accuracies = np.array([of.score("dev_accuracy")[:first] for of in runs])
    return 100 / max(_split_size(of_seed) for of_seed in accuracies.T)


def _split_size(accuracies: np.ndarray) -> int:
    sizes = np.arange(1, MOST_IMAGES + 1)
    correct = sizes[:, None] * accuracies
    explained = (np.abs(correct - np.round(correct)) <= ROUNDING * sizes[:, None]).all(axis=1)
    return int(sizes[explained][0]) if explained.any() else MOST_IMAGES
