"""The ensemble of a variant's first seeds: soft voting, the class of the highest mean output."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from stages.evaluate.outputs import labels_of
from stages.study.records import results
from stages.study.records.results import VariantResults


@dataclass(frozen=True)
class Ensemble:
    """The predictions of an ensemble.

    Attributes:
        labels: of the highest mean output [n].
        members: how many seeds it has, counted from the first.
        output_sum: float32 [n, classes], the sum of their outputs while later seeds can still join; else None.
    """

    labels: np.ndarray
    members: int
    output_sum: np.ndarray | None


def ensemble(
    seeds: int,
    outputs: Mapping[int, np.ndarray],
    previous: VariantResults | None,
    unchanged: Callable[[int], bool],
    predict: Callable[[int], np.ndarray],
) -> Ensemble:
    """The ensemble of the first `results.MEMBERS` of `seeds` seeds.

    The previous one is kept or added to where its members' results are unchanged, so that their models need not be
    here.

    Args:
        seeds: how many the variant has.
        outputs: seed → outputs float32 [n, classes], of the seeds that were evaluated now.
        previous: results of the variant.
        unchanged: whether the result of a seed is the previous one.
        predict: the outputs of a seed whose model was not evaluated now.

    Raises:
        UserError: by `predict`, where a model is missing.
    """
    members = results.ensemble_members(seeds)
    kept = None if outputs.keys() >= set(range(members)) else _kept(previous, members, unchanged)
    if kept is not None and kept.members == members:
        return Ensemble(kept.ensemble, members, kept.output_sum)
    total: np.ndarray | float = 0.0
    first = 0
    if kept is not None and kept.output_sum is not None:
        total, first = kept.output_sum, kept.members
    for seed in range(first, members):
        total = total + (outputs[seed] if seed in outputs else predict(seed))
    assert isinstance(total, np.ndarray)
    return Ensemble(labels_of(total / members), members, total if members < results.MEMBERS else None)


def _kept(previous: VariantResults | None, members: int, unchanged: Callable[[int], bool]) -> VariantResults | None:
    """The previous results, if their ensemble has no other members, and the results of its members are unchanged."""
    if previous is None or previous.members > members:
        return None
    return previous if all(unchanged(seed) for seed in range(previous.members)) else None
