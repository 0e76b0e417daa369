"""The interface for stages and tools: publishes runs, and warns instead of failing if MLflow can't be written."""

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

from many_seeds.errors import UserError
from stages.study import dvc, params
from stages.study.params import Params
from stages.study.records.current import outdated
from stages.tracking import address, client, published, runs, study_run
from stages.tracking.client import describe_error
from stages.tracking.experiment import Experiment, connect

ATTEMPTS = 4  # to publish while other machines publish the same
# Seconds of a training before its first run is published: it takes seconds to import MLflow, as long as short runs.
DELAY = 30


class Publisher:
    """Publishes the runs of one study; after the first failure it publishes nothing more.

    Args:
        study: the content of params.yaml.
        delay: seconds from now on in which `publish` only remembers the runs.

    Attributes:
        failed: whether MLflow could not be written.
    """

    def __init__(self, study: Params, delay: float = 0) -> None:
        self._study = study
        self._experiment: Experiment | None = None
        self.failed = False
        self._warned = False
        self._start = time.monotonic() + delay
        self._waiting = defaultdict[str, list[int]](list)

    def publish_all(self) -> int:
        """Publish all runs, the means of their variants, and the report.

        MLflow is not imported if the local database is known to have them.

        Returns:
            The number of runs that changed.
        """
        workspace = published.workspace_digest(self._study)
        if published.is_complete(workspace):
            return 0
        changed = self.publish_variants(list(self._study.variants)) + self.publish_study()
        if not self._warned and self._experiment and self._experiment.location == address.artifact_location():
            published.record_complete(workspace)
        return changed

    def publish(self, variant: str, seed: int) -> int:
        """Publish one run as far as the workspace has it, and those before it that had to wait.

        Runs that still wait when the delay ends are left to the next call, or to `publish_all`.

        Returns:
            The number of runs that changed.
        """
        self._waiting[variant].append(seed)
        if time.monotonic() < self._start:
            return 0
        runs_to_publish = dict(self._waiting)
        self._waiting.clear()
        return self._publish_runs(runs_to_publish, means=False)

    def publish_variants(self, variants: Sequence[str]) -> int:
        """Publish all runs of `variants`, and the means of each variant.

        Returns:
            The number of runs that changed.
        """
        former = outdated(self._study)
        if stale := [variant for variant in variants if variant in former]:
            self._warn(
                f"not published: {', '.join(stale)}, and the report. {dvc.LOCK} has them with other parameters or data "
                f"than {params.PARAMS}: run `dvc repro`."
            )
        wanted = {variant: range(self._study.recipe(variant).seeds) for variant in variants if variant not in stale}
        return self._publish_runs(wanted, means=True)

    def publish_study(self) -> int:
        """Publish what aggregation made, as a run of its own; 1 if it was not there yet."""
        return self._try(lambda experiment: study_run.publish_study(experiment, self._study))

    def _publish_runs(self, wanted: Mapping[str, Sequence[int]], *, means: bool) -> int:
        return self._try(lambda experiment: runs.publish(experiment, self._study, wanted, self._warn, means=means))

    def _warn_of_refused(self, experiment: Experiment) -> None:
        """Name the files that the server has refused because of their size, once."""
        if not experiment.refused:
            return
        name, size = max(experiment.refused.items(), key=lambda item: item[1])
        others = f" and {len(experiment.refused) - 1} more files" if len(experiment.refused) > 1 else ""
        self._warn(f"not published: {client.too_large(f'{name} ({size / 1e6:.1f} MB){others}')}")
        experiment.refused.clear()

    def _warn(self, message: str) -> None:
        self._warned = True
        client.warn(message)

    def _try_again_after_collisions(self, publish: Callable[[Experiment], int]) -> int:
        """Publish, anew if another machine wrote the same at the same moment: what it wrote is found then."""
        for _ in range(ATTEMPTS - 1):
            try:
                return self._publish_once(publish)
            except Exception as error:
                if not client.is_collision(error):
                    raise
        return self._publish_once(publish)

    def _publish_once(self, publish: Callable[[Experiment], int]) -> int:
        self._experiment = self._experiment or connect(self._study)
        changed = publish(self._experiment)
        self._warn_of_refused(self._experiment)
        return changed

    def _try(self, publish: Callable[[Experiment], int]) -> int:
        if self.failed:
            return 0
        # Whatever a tracking server or its client library raises, the study's own results must not suffer from it.
        try:
            return self._try_again_after_collisions(publish)
        except UserError as error:
            self._warn(f"nothing more is published: {error}. The study goes on without.")
        except Exception as error:  # noqa: BLE001
            self._warn(
                f"MLflow at {address.shown_uri()} can't be written ({type(error).__name__}: {describe_error(error)}). "
                "The study goes on; `make ui` publishes what is missing."
            )
        self.failed = True
        return 0
