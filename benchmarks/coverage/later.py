"""Comparisons that are made, removed or changed after scores were seen: two questions."""

import numpy as np

from benchmarks.coverage.shared import (
    FIRST,
    INTERVALS,
    LEVEL,
    MOST,
    QUARTER,
    SD,
    Section,
    errors,
    first_verdicts,
    in_parts,
    percent,
    wrong,
)
from many_seeds.statistics.intervals import UNDECIDED
from many_seeds.statistics.levels import batch_level

ASKED = (20, 50)  # comparisons, or recipes, one after the other
EDITED = 30  # seeds of each recipe
BY_LIST, BY_BATCH = "level α / comparisons on the list", "level assigned once, by batch"
KEPT, NEW = "level α kept", "each edit a new batch"
SEEN = (40, 10)  # seeds that two kinds of variants had
VARIANTS = 20  # of each kind
STARTS = {"all seeds": 0, "seeds from the smaller number on": SEEN[1], "seeds from the larger number on": SEEN[0]}
AT_ONCE = 500  # studies; bounds the memory


def sections(studies: int) -> list[Section]:
    return [
        asked_section(in_parts(removed, [2026, 1], studies, AT_ONCE), in_parts(edited, [2026, 2], studies, AT_ONCE)),
        chosen_section(in_parts(chosen, [2026, 3], studies, AT_ONCE)),
    ]


def removed(generator: np.random.Generator, studies: int) -> dict[str, np.ndarray]:
    """Null comparisons made one after the other, where undecided ones are removed from the list.

    Returns:
        For each rule, interval and number of comparisons, whether each study has a wrong verdict, bool [studies].
    """
    found: dict[str, np.ndarray] = {}
    differences = (generator.normal(0, SD, (studies, MOST)) for _ in range(max(ASKED)))
    kept = {interval: np.zeros(studies, int) for interval in INTERVALS}
    errors_of = {(rule, interval): np.zeros(studies, bool) for rule in (BY_LIST, BY_BATCH) for interval in INTERVALS}
    for place, drawn in enumerate(differences, 1):
        for interval, codes in INTERVALS.items():
            by_list = first_verdicts(codes(drawn, QUARTER, LEVEL / (1 + kept[interval][:, None])))
            kept[interval] += by_list != UNDECIDED
            errors_of[BY_LIST, interval] |= wrong(by_list, 0)
            by_batch = first_verdicts(codes(drawn, QUARTER, batch_level(place, 1, LEVEL)))
            errors_of[BY_BATCH, interval] |= wrong(by_batch, 0)
        if place in ASKED:
            found |= {f"{rule}, {interval}, {place}": any_.copy() for (rule, interval), any_ in errors_of.items()}
    return found


def edited(generator: np.random.Generator, studies: int) -> dict[str, np.ndarray]:
    """A recipe that is edited until its comparison has a verdict, at each of 10 to 30 seeds; no edit has an effect.

    Returns:
        As `removed`.
    """
    found: dict[str, np.ndarray] = {}
    looks = np.arange(FIRST, EDITED + 1)
    reference = generator.normal(0, SD / 2**0.5, (studies, EDITED))
    errors_of = {(rule, interval): np.zeros(studies, bool) for rule in (KEPT, NEW) for interval in INTERVALS}
    for place in range(1, max(ASKED) + 1):
        differences = generator.normal(0, SD / 2**0.5, (studies, EDITED)) - reference
        for rule, interval in errors_of:
            level = LEVEL if rule == KEPT else batch_level(place, 1, LEVEL)
            errors_of[rule, interval] |= wrong(first_verdicts(INTERVALS[interval](differences, looks, level)), 0)
        if place in ASKED:
            found |= {f"{rule}, {interval}, {place}": any_.copy() for (rule, interval), any_ in errors_of.items()}
    return found


def asked_section(of_removed: dict[str, np.ndarray], of_edited: dict[str, np.ndarray]) -> Section:
    lines = [["what is done", "level", "interval", *(f"{count} of them" for count in ASKED)]]
    parts = [
        ("comparisons added, removed if undecided", of_removed, (BY_LIST, BY_BATCH)),
        ("a recipe edited in place", of_edited, (KEPT, NEW)),
    ]
    for done, found, rules in parts:
        for rule in rules:
            for interval in INTERVALS:
                rates = [errors(found[f"{rule}, {interval}, {count}"]) for count in ASKED]
                lines.append([done, rule, interval, *rates])
    last = f"running intersection, {ASKED[-1]}"
    return Section(
        "Comparisons added, removed or edited after a look",
        f"""\
Share of studies with any wrong verdict; no difference is real (sd {SD:g} percentage points).

- Comparisons are made one after the other, each with looks from {FIRST} to {MOST} seeds, a quarter more each
  time. Undecided ones are removed from the list. By list: each is judged at α / (comparisons on the list). By
  batch: each is a batch of its own, with a level that never changes, and removing it does not return the level.
- A recipe is edited, and trained with the same seeds, until its comparison with another recipe has a verdict,
  with a look at each of {FIRST} to {EDITED} seeds. Either the comparison keeps its level, or each edit is a new
  comparison.
- Running intersection: that of the intervals at 2, 3, … seeds up to the look, as in the study.""",
        lines,
        f"With levels assigned once, {percent(of_removed[f'{BY_BATCH}, {last}'])} of studies that make {ASKED[-1]} "
        f"comparisons have a wrong verdict, instead of {percent(of_removed[f'{BY_LIST}, {last}'])}; with {ASKED[-1]} "
        f"edits, {percent(of_edited[f'{NEW}, {last}'])} instead of {percent(of_edited[f'{KEPT}, {last}'])}.",
    )


def chosen(generator: np.random.Generator, studies: int) -> dict[str, np.ndarray]:
    """The most extreme pair of many, by the mean of the scores that were seen, is compared; no variant differs.

    Returns:
        For each first seed that is used and each interval, whether the verdict is wrong, bool [studies].
    """
    pair, place = [], np.arange(studies)
    scores = [generator.standard_normal((studies, VARIANTS, seeds)) for seeds in SEEN]
    distances = np.abs(scores[0].mean(axis=2)[:, :, None] - scores[1].mean(axis=2)[:, None])
    extreme = np.divmod(distances.reshape(studies, -1).argmax(axis=1), VARIANTS)
    for of, variant in zip(scores, extreme, strict=True):
        seen = of[place, variant]
        pair.append(np.hstack([seen, generator.standard_normal((studies, MOST - seen.shape[1]))]))
    differences = (pair[1] - pair[0]) * SD / 2**0.5
    found = {}
    for start, first_seed in STARTS.items():
        looks = QUARTER[: np.searchsorted(QUARTER, MOST - first_seed, side="right")]
        for interval, codes in INTERVALS.items():
            verdicts = first_verdicts(codes(differences[:, first_seed:], looks, LEVEL))
            found[f"{start}, {interval}"] = wrong(verdicts, 0)
    return found


def chosen_section(found: dict[str, np.ndarray]) -> Section:
    lines = [["seeds in the comparison", *INTERVALS]]
    lines += [[start, *(errors(found[f"{start}, {interval}"]) for interval in INTERVALS)] for start in STARTS]
    smaller, larger = (percent(found[f"{start}, running intersection"]) for start in list(STARTS)[1:])
    return Section(
        "A comparison chosen because of its scores",
        f"""\
Wrong verdicts of one comparison at level {100 * LEVEL:g} %, chosen when {VARIANTS} variants had {SEEN[0]} seeds
and {VARIANTS} others {SEEN[1]}: the pair of one of each whose mean scores were farthest apart. No variant
differs. Looks at {FIRST} to {MOST} seeds, a quarter more each time.""",
        lines,
        f"With seeds from the larger number on (`from_seed`), {larger} of verdicts are wrong; from the smaller number "
        f"on {smaller}, because one variant was chosen for its scores on some of these seeds.",
    )
