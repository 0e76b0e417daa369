"""Races: which of several variants is best? The state of a race, from its scores alone: pure functions.

Each pair of the K variants is compared at level / (K − 1), by the running intersection of the intervals of
`statistics.intervals`. A variant is eliminated once another one that is still in the race is better. The race ends when
all variants in it are equivalent to the leader, or one is left, or the seeds are used up.

Guarantee: with probability 1 − level, the best variant is never eliminated, and a race that ends with one variant left
or with equivalent ones has a winner that is worse than the best variant by less than the margin, if at all. A wrong
winner needs an interval of one of the K − 1 pairs of the best variant to miss (Bonferroni), at any number of seeds. The
guarantee is for the winner: an elimination is no verdict on its pair, and says nothing of the other pairs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from many_seeds.comparisons import compare_runs
from many_seeds.output import text
from many_seeds.output.messages import counted, listed
from many_seeds.results import Result, Settings
from many_seeds.sources.scores import VariantScores
from many_seeds.statistics import intervals
from many_seeds.statistics.intervals import BETTER, EQUIVALENT, ROUNDING, UNDECIDED
from many_seeds.statistics.outliers import outliers, sign_test

Reason = Literal["one left", "equivalent", "seeds used up"]


@dataclass(frozen=True)
class Elimination:
    """When a variant left the race.

    Attributes:
        n: the number of seeds after which it did.
        by: the variant in the race that was better; of several, the one with the highest mean score.
    """

    n: int
    by: str


@dataclass(frozen=True)
class Standing:
    """The state of a race.

    Attributes:
        n: the number of seeds that all variants in the race have, up to the end of the race.
        in_race: variants that are not eliminated, in the order of the scores.
        eliminated: the others, in the order of their elimination.
        leader: the variant in the race with the best mean score over the n seeds; None for n = 0.
        ended: whether the race is over; then the leader is the winner.
        reason: why it ended; None if it did not. After "seeds used up", the variants in the race may differ by more
            than the margin, but the best variant is one of them.
    """

    n: int
    in_race: tuple[str, ...]
    eliminated: Mapping[str, Elimination]
    leader: str | None
    ended: bool
    reason: Reason | None


def guarantee(scope: str, confidence: str) -> str:
    """What races guarantee.

    Args:
        scope: whose comparisons and races share the error: "study" or "store".
        confidence: in percent.
    """
    return (
        f"Over all comparisons and races of the {scope} together, the best variant is not eliminated and a winner is "
        f"worse than the best by less than the margin, if at all, with at least {confidence} confidence. The guarantee "
        "is for the winner; an elimination is no verdict on its pair."
    )


@dataclass(frozen=True)
class RaceResult:
    """The state of a race with its scores.

    Attributes:
        name: the name of the race.
        standing: its state.
        settings: of its comparisons.
        level: the probability of a wrong winner.
        from_seed: lower seeds are not used. Numbers of seeds in `standing` are counted from it on.
        scores: variant → float [seeds], the scores of its seeds from 0 on, in the unit of the margin.
        remarks: what a reader needs to know, one sentence each, as on diverged runs.
    """

    name: str
    standing: Standing
    settings: Settings
    level: float
    from_seed: int
    scores: Mapping[str, np.ndarray]
    remarks: tuple[str, ...] = ()

    def __str__(self) -> str:
        """The table, what it guarantees, and the remarks."""
        direction = "lower" if self.settings.lower_is_better else "higher"
        facts = f"Margin: {text.plain(self.settings.margin)}. A {direction} score is better."
        guaranteed = guarantee("store", f"{text.plain(100 * self.settings.confidence)} %")
        return "\n\n".join([self.table(), *map(text.filled, [f"{facts} {guaranteed}", *self.remarks])]) + "\n"

    @property
    def scale(self) -> float:
        """By which means are divided in `rows`."""
        return 1.0

    @property
    def variants(self) -> tuple[str, ...]:
        """All that take part, in or out of the race."""
        return tuple(self.scores)

    @property
    def winner(self) -> str | None:
        """The winner, None until the race has ended."""
        return self.standing.leader if self.standing.ended else None

    @property
    def seeds(self) -> int:
        """The number of seeds that all variants in the race have, with those that the race leaves out."""
        return self.from_seed + self.standing.n

    @property
    def seeds_projected(self) -> int | None:
        """The projected number of counted seeds at the end of the race; None if no end is projected.

        A projection from each variant in the race compared with the leader, which the guarantee does not cover.
        """
        inside = [result for result in self.with_leader() if result.a in self.standing.in_race]
        pending = [result.seeds_projected for result in inside if result.verdict == "undecided"]
        known = [seeds for seeds in pending if seeds is not None]
        return max(known) if known and len(known) == len(pending) else None

    @property
    def summary(self) -> str:
        """Who won, or who is in the race; and after how many seeds the others were eliminated."""
        leader, others = self.standing.leader, [name for name in self.standing.in_race if name != self.standing.leader]
        if leader is None:
            return "no seed counts yet"
        seeds = counted(self.standing.n, "seed")
        if self.standing.reason in (None, "seeds used up"):
            found = f"{len(others) + 1} of {len(self.variants)} variants are in the race after {seeds}: "
            found += listed([f"{leader} (leader)", *others])
        else:
            found = f"{leader} wins after {seeds}"
            found += f", equivalent: {listed(others)}" if others else ""
        out: dict[int, list[str]] = {}
        for name, elimination in self.standing.eliminated.items():
            out.setdefault(elimination.n, []).append(name)
        eliminated = [f"{listed(names)} after {n}" for n, names in out.items()]
        return f"{found}; eliminated: {', '.join(eliminated)}" if eliminated else found

    def with_leader(self) -> list[Result]:
        """The comparison of each other variant with the leader, in the order of `rows`; none before the first seed.

        Those of eliminated variants are on the seeds that they have, and may be undecided: a variant is eliminated by
        any other one in the race.
        """
        leader = self.standing.leader
        if leader is None:
            return []
        scores = {name: self.scores[name][: self.seeds] for name in self._ordered()}
        runs = {name: VariantScores(np.arange(len(of)), of) for name, of in scores.items()}
        level = self.level / (len(self.variants) - 1)
        return [
            compare_runs(name, leader, of, runs[leader], level=level, settings=self.settings, from_seed=self.from_seed)
            for name, of in runs.items()
            if name != leader
        ]

    def table(self) -> str:
        """A row for each variant, as in `rows`, in four digits."""
        cells = [
            [row["variant"], row["state"], text.MISSING if row["mean"] is None else f"{row['mean']:.4g}", row["seeds"]]
            for row in self.rows()
        ]
        return text.aligned(["variant", "state", "mean", "seeds"], [list(map(str, row)) for row in cells], left=2)

    def rows(self) -> list[dict[str, Any]]:
        """A row for each variant, the leader first, those that were eliminated first at the end.

        Returns:
            Of each variant: `mean` of its counted scores up to the last common seed, divided by `scale`, None without
            a seed; `seeds`, their number; `state`, a few words; and `eliminated_after`, a number of seeds, and
            `eliminated_by`, None for a variant in the race.
        """
        return [self._row(name, self._counted(name) / self.scale) for name in self._ordered()]

    def _ordered(self) -> list[str]:
        """The variants, the leader first, those that were eliminated first at the end."""
        sign = -1 if self.settings.lower_is_better else 1

        def rank(name: str) -> tuple[bool, float]:
            values = self._counted(name)
            return name == self.standing.leader, sign * float(values.mean()) if len(values) else -np.inf

        return [*sorted(self.standing.in_race, key=rank, reverse=True), *list(self.standing.eliminated)[::-1]]

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


def standing(
    scores: Mapping[str, np.ndarray],
    *,
    level: float,
    margin: float,
    resolution: float,
    first_seed: int = 0,
    most: int | None = None,
    lower_is_better: bool = False,
) -> Standing:
    """The state of a race, from replaying its seeds in order.

    The state after n seeds depends on the first n seeds only, so further seeds never bring a variant back. Seeds need
    to be added only to variants in the race. The number of variants is part of the rule: with one more, it is another
    race, which is replayed from its first seed.

    Where one of two variants has an outlier among its runs so far, they are not equivalent, and one is better only if
    the interval at this number of seeds and a sign test say so, see `statistics.outliers`.

    Args:
        scores: of each variant, float [seeds]; element i is the score of seed i, NaN if this seed has none. Seeds
            after the first missing one from `first_seed` on are not used.
        level: the probability of a wrong winner.
        margin: equivalence margin, in the unit of the scores.
        resolution: see `intervals.interval`.
        first_seed: lower seeds are not used.
        most: the number of seeds after which the race ends; None for no limit.
        lower_is_better: whether the best variant is the one with the lowest mean score.

    Returns:
        The state after the last seed that all variants in the race have, or at the end of the race.

    Raises:
        ValueError: there are fewer than two variants, or a score is infinite.

    Example:
        >>> noise = np.array([0.1, -0.1, 0.2, -0.2, 0.0] * 2)
        >>> found = standing({"a": 98 + noise, "b": 90 - noise}, level=0.05, margin=0.05, resolution=0.01)
        >>> found.leader, found.reason, found.eliminated
        ('a', 'one left', {'b': Elimination(n=5, by='a')})
    """
    if len(scores) < 2:
        raise ValueError(f"Expected a race of two variants or more, received {list(scores)}.")
    sign = -1 if lower_is_better else 1
    runs = [sign * _runs(name, values, first_seed) for name, values in scores.items()]
    names, level = list(scores), level / (len(scores) - 1)
    counts = np.array([len(each) for each in runs])
    table = _filled(runs)
    codes = _codes(table, level, margin, resolution)
    means = np.cumsum(table, axis=1) / np.arange(1, table.shape[1] + 1)

    inside, eliminated = np.ones(len(names), bool), {}
    n, leader, reason = 0, None, None
    while reason is None and n < counts[inside].min():
        n += 1
        pairs = _Pairs(codes[:, :, n - 1], table[:, :n], level, resolution)
        for loser, winner in pairs.eliminations(inside, means[:, n - 1]).items():
            eliminated[names[loser]] = Elimination(n, names[winner])
            inside[loser] = False
        leader = int(np.argmax(np.where(inside, means[:, n - 1], -np.inf)))
        reason = _reason(pairs, inside, leader, used_up=n == most)
    return Standing(
        n=n,
        in_race=tuple(name for name, still in zip(names, inside, strict=True) if still),
        eliminated=eliminated,
        leader=None if leader is None else names[leader],
        ended=reason is not None,
        reason=reason,
    )


@dataclass(frozen=True)
class _Pairs:
    """All pairs of variants after n seeds.

    Attributes:
        codes: int [variants, variants]; [i, j] is the verdict on i compared with j, without regard to outliers.
        table: scores, float [variants, n].
        level: of each pair.
        resolution: see `standing`.
    """

    codes: np.ndarray
    table: np.ndarray
    level: float
    resolution: float

    def eliminations(self, inside: np.ndarray, means: np.ndarray) -> dict[int, int]:
        """Variants in the race that another one in the race is better than, and the best such variant.

        Args:
            inside: bool [variants], whether each is in the race.
            means: float [variants].
        """
        better = (self.codes == BETTER) & inside[:, None] & inside
        found = {}
        for loser in np.flatnonzero(better.any(axis=0)).tolist():
            winners = [one for one in np.flatnonzero(better[:, loser]).tolist() if self._confirmed(one, loser)]
            if winners:
                found[loser] = max(winners, key=means.__getitem__)
        return found

    def equivalent(self, inside: np.ndarray, leader: int) -> bool:
        """Whether all variants in the race are equivalent to the leader."""
        others = inside.copy()
        others[leader] = False
        return bool((self.codes[others, leader] == EQUIVALENT).all()) and not self._have_outliers(inside)

    def _confirmed(self, winner: int, loser: int) -> bool:
        if not self._have_outliers([winner, loser]):
            return True
        differences = self.table[winner] - self.table[loser]
        found = intervals.interval(differences, level=self.level, resolution=self.resolution)
        return found.low > 0 and sign_test(differences, self.level) == 1

    def _have_outliers(self, variants: np.ndarray | Sequence[int]) -> bool:
        return bool(outliers(self.table[variants], self.resolution).any())


def _reason(pairs: _Pairs, inside: np.ndarray, leader: int, *, used_up: bool) -> Reason | None:
    if inside.sum() == 1:
        return "one left"
    if pairs.equivalent(inside, leader):
        return "equivalent"
    return "seeds used up" if used_up else None


def _runs(name: str, scores: np.ndarray, first_seed: int) -> np.ndarray:
    """The scores from the first seed up to the first missing one."""
    runs = np.asarray(scores, dtype=np.float64)[first_seed:]
    missing = np.flatnonzero(np.isnan(runs))
    runs = runs[: missing[0]] if len(missing) else runs
    if not np.isfinite(runs).all():
        raise ValueError(f"Expected finite scores of {name}, received {runs.tolist()}.")
    return runs


def _filled(runs: Sequence[np.ndarray]) -> np.ndarray:
    """Runs as one array [variants, seeds]; the mean of a variant stands for runs that it lacks, which are not used."""
    table = np.zeros((len(runs), max(map(len, runs))))
    for row, of in zip(table, runs, strict=True):
        row[:] = of.mean() if len(of) else 0
        row[: len(of)] = of
    return table


def _codes(table: np.ndarray, level: float, margin: float, resolution: float) -> np.ndarray:
    """Verdicts [variants, variants, seeds]: [i, j, n − 1] is on i compared with j after n seeds."""
    if not table.size:
        return np.zeros((len(table), len(table), 0), int)
    differences = table[:, None] - table
    rounding = ROUNDING * float(np.abs(table).max())
    low, high = intervals.intervals_by_n(differences, level=level, resolution=resolution, rounding=rounding)
    low, high = np.maximum.accumulate(low, axis=-1), np.minimum.accumulate(high, axis=-1)
    codes = intervals.verdict_codes(low, high, margin)
    return np.where(low > high, UNDECIDED, codes)  # an empty intersection
