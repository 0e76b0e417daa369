"""The interface for stages and tools: publishes runs, and warns instead of failing if MLflow can't be written."""

from collections.abc import Callable, Sequence

from many_seeds.errors import UserError
from stages.study import dvc, params
from stages.study.params import Params
from stages.study.records.current import outdated
from stages.tracking import address, runs, study_run
from stages.tracking.client import describe_error, warn
from stages.tracking.experiment import Experiment, connect


class Publisher:
    """Publishes the runs of one study; after the first failure it publishes nothing more.

    Attributes:
        failed: whether MLflow could not be written.
    """

    def __init__(self, study: Params) -> None:
        self._study = study
        self._experiment: Experiment | None = None
        self.failed = False

    def publish(self, variant: str, seed: int) -> int:
        """Publish one run as far as the workspace has it.

        Returns:
            The number of runs that changed.
        """
        return self._try(lambda experiment: runs.publish(experiment, self._study, {variant: [seed]}, means=False))

    def publish_variants(self, variants: Sequence[str]) -> int:
        """Publish all runs of `variants`, and the means of each variant.

        Returns:
            The number of runs that changed.
        """
        former = outdated(self._study)
        if stale := [variant for variant in variants if variant in former]:
            warn(
                f"not published: {', '.join(stale)}, and the report. {dvc.LOCK} has them with other parameters or data "
                f"than {params.PARAMS}: run `dvc repro`."
            )
        wanted = {variant: range(self._study.recipe(variant).seeds) for variant in variants if variant not in stale}
        return self._try(lambda experiment: runs.publish(experiment, self._study, wanted, means=True))

    def publish_study(self) -> int:
        """Publish what aggregation made, as a run of its own; 1 if it was not there yet."""
        return self._try(lambda experiment: study_run.publish_study(experiment, self._study))

    def _try(self, publish: Callable[[Experiment], int]) -> int:
        if self.failed:
            return 0
        # Whatever a tracking server or its client library raises, the study's own results must not suffer from it.
        try:
            if self._experiment is None:
                self._experiment = connect(self._study)
            return publish(self._experiment)
        except UserError as error:
            warn(f"nothing more is published: {error}. The study goes on without.")
        except Exception as error:  # noqa: BLE001
            warn(
                f"MLflow at {address.shown_uri()} can't be written ({type(error).__name__}: {describe_error(error)}). "
                "The study goes on; `make ui` publishes what is missing."
            )
        self.failed = True
        return 0
