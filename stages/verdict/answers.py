"""The questions that scores are asked, and their answers: one interval for each pair, and the verdict read off it."""

import difflib
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stages import gate, sequential
from stages.errors import StudyError
from stages.sequential import Design, Interval
from stages.verdict import sources
from stages.verdict.sources import Runs, Scores

MOST_PAIRS = 10_000
EQUAL = 8 * np.finfo(np.float64).eps  # of the largest score: what arithmetic alone makes of equal differences

Pair = tuple[str, str]


@dataclass(frozen=True)
class Settings:
    """What is asked for; margin and step in the unit of the score.

    margin: a difference inside is not worth having; 0: every difference is.
    step: the smallest difference that two runs can have, below which no spread is believed; 0: none.
    """

    confidence: float = 0.95
    margin: float = 0.0
    step: float = 0.0
    design: Design = "open"
    lower_is_better: bool = False


@dataclass(frozen=True)
class Answer:
    """b against a; difference and interval are of b − a, in the unit of the score.

    verdict: one of `sequential.VERDICTS`, or `gate.UNCHANGED` where both score the same in every seed, of two or more.
    low, high: infinite where nothing is ruled out.
    tied: every seed shows the same difference, not 0, and no step is given: nothing tells how sure it is.
    n_a, n_b: runs of either that count; where they are paired, the seeds that both have.
    seeds_about, seeds_at_most: see `sequential.Answer`; None too where runs are not paired.
    """

    a: str
    b: str
    verdict: str
    difference: float
    low: float
    high: float
    tied: bool
    paired: bool
    n_a: int
    n_b: int
    seeds_about: int | None
    seeds_at_most: int | None

    @property
    def n(self) -> str:
        return f"{self.n_a}" if self.paired else f"{self.n_a} and {self.n_b}"


def pairs_of(scores: Scores, named: Sequence[str], baseline: str | None) -> list[Pair]:
    """The questions: those that are named, else every variant against the baseline, else every pair.

    Args:
        scores: of at least two variants.
        named: texts A:B, several in one with commas between.
        baseline: a variant.

    Raises:
        StudyError: a name is unknown, a pair is named twice, or there are too many pairs.
    """
    names = list(scores.variants)
    if len(names) < 2:
        raise StudyError(
            f"expected two variants at least, found only {sources.named(names)}: name with --by the columns or "
            "parameters that tell variants apart, or have, with --wide, a column for each"
        )
    if named:
        texts = [part for text in named for part in ([text] if _pair(text, names) else _parts(text))]
        found = [_pair(text, names) or _unknown(text, names) for text in texts]
        if twice := [pair for place, pair in enumerate(found) if {*pair} in [{*other} for other in found[:place]]]:
            raise StudyError(f"--pairs names {twice[0][0]}:{twice[0][1]} twice, one way or the other: once is enough")
        return found
    if baseline is not None:
        if baseline not in names:
            raise StudyError(f"--baseline should be a variant, received {baseline!r}. {_meant(baseline, names)}")
        return [(baseline, name) for name in names if name != baseline]
    if (count := math.comb(len(names), 2)) > MOST_PAIRS:
        raise StudyError(
            f"{len(names):,} variants make {count:,} pairs, more than anything could be said of: name a "
            "--baseline, or the --pairs that matter"
        )
    return list(itertools.combinations(names, 2))


def _pair(text: str, names: Sequence[str]) -> Pair | None:
    """The variants of "a:b", whose names may have colons and commas themselves; None if they are not two of `names`."""
    known = {*names}
    for place in (place for place, character in enumerate(text) if character == ":"):
        a, b = text[:place].strip(), text[place + 1 :].strip()
        if a in known and b in known and a != b:
            return a, b
    return None


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()] or [text]


def _unknown(text: str, names: Sequence[str]) -> Pair:
    if text in {f"{name}:{name}" for name in names}:
        raise StudyError(f"--pairs should be A:B with two variants, received one, against itself: {text!r}")
    wrong = [name for name in map(str.strip, text.split(":")) if name not in names] if ":" in text else []
    there = _meant(wrong[0], names) if wrong else f"There are: {sources.named(names)}"
    alone = " A pair with a comma in a name needs a --pairs of its own." if any("," in name for name in names) else ""
    raise StudyError(f"--pairs should be A:B with two variants, received {text!r}.{alone} {there}")


def _meant(name: str, names: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, names)
    return f"Meant: {' or '.join(close)}?" if close else f"There are: {sources.named(names)}"


def answers(scores: Scores, pairs: Sequence[Pair], settings: Settings) -> list[Answer]:
    """One for each pair; all their intervals hold together.

    Raises:
        StudyError: runs that have no seed in common are asked for an open design.
    """
    level = (1 - settings.confidence) / len(pairs)  # also of pairs that are tied: which are, the scores say
    if settings.design == "open":
        _refuse_unpaired(scores, pairs)
    return [_answer(a, b, *shared(scores.variants[a], scores.variants[b]), level, settings) for a, b in pairs]


def shared(a: Runs, b: Runs) -> tuple[Runs, Runs]:
    """The runs of the seeds that both have, in the same order; all runs where they have none in common."""
    if np.array_equal(a.seeds, b.seeds):
        return a, b
    common, in_a, in_b = np.intersect1d(a.seeds, b.seeds, assume_unique=True, return_indices=True)
    return (Runs(common, a.scores[in_a]), Runs(common, b.scores[in_b])) if len(common) else (a, b)


def _paired(a: Runs, b: Runs) -> bool:
    return len(a.seeds) > 0 and np.array_equal(a.seeds, b.seeds)


def _refuse_unpaired(scores: Scores, pairs: Sequence[Pair]) -> None:
    apart = [(a, b) for a, b in pairs if not _paired(*shared(scores.variants[a], scores.variants[b]))]
    if not apart:
        return
    pairs_apart = sources.named([f"{a}:{b}" for a, b in apart])
    if scores.paired:
        seeds = [[scores.seeds[seed] for seed in scores.variants[name].seeds] for name in apart[0]]
        first = "; ".join(f"{name}: {sources.named(of)}" for name, of in zip(apart[0], seeds, strict=True))
        pairs_apart += f" ({first})"
    raise StudyError(
        f"these have no seed in common: {pairs_apart}. An interval that allows for more runs at any time "
        "(--design open) compares seed by seed: run both with the same seeds; or, if the number of runs was fixed "
        "before any score was seen, say --design fixed"
    )


def _answer(a: str, b: str, of_a: Runs, of_b: Runs, level: float, settings: Settings) -> Answer:
    step, margin = settings.step, settings.margin
    paired, n_a, n_b = _paired(of_a, of_b), len(of_a.scores), len(of_b.scores)
    differences = of_b.scores - of_a.scores if paired else of_b.scores.mean() - of_a.scores.mean()
    noise = EQUAL * max(np.abs(of_a.scores).max(), np.abs(of_b.scores).max())
    without_spread = min(n_a, n_b) > 1 and all(
        np.ptp(values) <= noise for values in ([differences] if paired else [of_a.scores, of_b.scores])
    )
    unchanged = paired and without_spread and bool(np.all(np.abs(differences) <= noise))
    mean = 0.0 if unchanged else float(np.mean(differences))
    if without_spread and not step:
        found = Interval(-math.inf, math.inf)
    elif paired:
        found = sequential.interval(differences, level=level, step=step, design=settings.design)
    else:
        found = sequential.welch_interval(of_b.scores, of_a.scores, level=level, step=step)
    good = Interval(-found.high, -found.low) if settings.lower_is_better else found
    word: str = gate.UNCHANGED if unchanged else sequential.verdict(good, margin)
    tied = without_spread and not step and not unchanged
    about = most = None
    if word == "undecided" and paired and n_a > 1 and not tied:
        sd = sequential.spread(differences, step)
        about = sequential.seeds_about(n_a, mean, sd, level=level, margin=margin)
        most = sequential.seeds_at_most(n_a, sd, level=level, margin=margin)
    return Answer(a, b, word, mean, found.low, found.high, tied, paired, n_a, n_b, about, most)
