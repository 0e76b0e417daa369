"""The races of a study in params.yaml, and their state from the scores of runs."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from many_seeds.errors import UserError
from many_seeds.ledger import Row, race_identity
from many_seeds.output import text
from many_seeds.output.messages import listed
from many_seeds.races import RaceResult, standing
from stages.study.comparisons import settings_of
from stages.study.params import Params
from stages.study.paths import COMPARISONS
from stages.study.provenance.identities import variant_identity
from stages.study.records.results import EvaluatedRuns, diverged_sentence
from stages.study.scores import RACE_SCORES, VALIDATION_ACCURACY, Score

MOST_IMAGES = 100_000  # of a validation split, as far as its size is sought in the accuracies
FIRST_SEEDS = 10  # in which it is sought
HEADER = ["variant", "state", "mean", "seeds"]
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
        """A digest of what the race is, see `ledger.race_identity`."""
        return race_identity(self.variant_identities(study), self.score)


@dataclass(frozen=True, kw_only=True)
class RaceState(RaceResult):
    """The state of a race of a study, its scores in the unit of the margin.

    Attributes:
        race: the race.
    """

    race: NamedRace

    @property
    def score(self) -> Score:
        return RACE_SCORES[self.race.score]

    @property
    def scale(self) -> float:
        """Means are shown as fractions if the score is a share."""
        return self.score.scale

    @property
    def sentence(self) -> str:
        """The race with its score and its state."""
        return f"Race {self.name}, by {self.score.label}: {self.summary}"

    def cells(self) -> list[list[str]]:
        """The cells of its table, below `HEADER`: a row for each variant, the leader first."""
        return [
            [
                row["variant"],
                row["state"],
                text.MISSING if row["mean"] is None else self.score.text(row["mean"]),
                str(row["seeds"]),
            ]
            for row in self.rows()
        ]


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
    # The intervals of a race are valid at any number of seeds, also in the fixed design.
    settings = replace(settings_of(study.statistics, score, truth, ordered=True, margin=race.margin), design="open")
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
    return RaceState(race.name, found, settings, row.level, row.from_seed, values, remarks=diverged, race=race)


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
