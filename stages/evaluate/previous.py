"""The previous evaluation of a variant, so that ten more seeds cost ten evaluations."""

from typing import Any

import numpy as np

from many_seeds.errors import UserError
from stages.evaluate.run import EvaluatedRun
from stages.study import paths
from stages.study.provenance import environments
from stages.study.provenance.environments import Environment, canonical
from stages.study.records.models import read_facts
from stages.study.records.results import DIVERGED, VariantResults, find_results


class PreviousEvaluation:
    """The runs that were evaluated before on the same test images, in an environment that gives the same bits.

    Attributes:
        results: of the variant; None where there are none, or where they are damaged or of other test images.
    """

    def __init__(
        self, variant: str, identity: str, images: np.ndarray, truth: np.ndarray, evaluation: Environment
    ) -> None:
        """Read the results of `variant`.

        Args:
            variant: its name.
            identity: as in `canonical`.
            images: of the test set, uint8 [n, height, width] or [n, height, width, 3].
            truth: their labels [n].
            evaluation: the environment that evaluates now.
        """
        self._variant = variant
        self.results: VariantResults | None = None
        self._runs: dict[int, EvaluatedRun] = {}
        try:
            results = find_results(variant)
        except UserError:  # damaged: everything is evaluated anew
            return
        if results is not None and results.is_of(images, truth):
            self.results = results
            self._runs = _runs_evaluated_in(results, identity, evaluation)

    def run(self, seed: int) -> EvaluatedRun | None:
        """The previous evaluation of this seed, whichever model is here now."""
        return self._runs.get(seed)

    def reusable(self, seed: int) -> EvaluatedRun | None:
        """The previous evaluation of this seed, if the evaluated model is the one that is here, or if none is here."""
        previous = self._runs.get(seed)
        folder = paths.run_path(self._variant, seed)
        if previous is None or not folder.exists():
            return previous
        facts = read_facts(folder)
        same_model = facts["digests"].get("model") == previous.environment["model"]
        return previous if same_model and facts["key"] == previous.row["key"] else None


def _runs_evaluated_in(results: VariantResults, identity: str, evaluation: Environment) -> dict[int, EvaluatedRun]:
    """The runs of `results` that were evaluated in an environment with the same bits as `evaluation`, by seed."""
    certificates = environments.read_certificates()

    def root(environment: Environment) -> Environment:
        return canonical(identity, "evaluate", environment, certificates)

    def records(table: Any) -> list[dict[str, Any]]:
        return table.astype(object).to_dict("records")

    expected, runs = root(evaluation), {}
    rows = zip(records(results.scores), records(results.environments), results.predicted, results.diverged, strict=True)
    for scores, environment, labels, diverged in rows:
        if not diverged:
            scores.pop(DIVERGED, None)  # the column is there because of other runs
        if root(Environment.parse(environment["evaluation"])) == expected:
            bins = results.calibration[results.calibration["seed"] == scores["seed"]]
            runs[int(scores["seed"])] = EvaluatedRun(scores, labels, bins, environment)
    return runs
