"""What the stages publish with: MLflow may be down or refuse, and the study goes on."""

import sys
from collections.abc import Callable, Sequence

from many_seeds.errors import UserError
from many_seeds.redact import redact
from stages.study import dvc, params
from stages.study.current import outdated
from stages.study.params import Params
from stages.tracking import address, runs, study_run
from stages.tracking.client import in_a_line
from stages.tracking.target import Target, connect


class Publisher:
    """Publishes runs of one study, and gives up with a warning, never an error, when MLflow can't be written."""

    def __init__(self, study: Params) -> None:
        self._study = study
        self._target: Target | None = None
        self.failed = False

    def publish(self, variant: str, seed: int) -> int:
        """Publish one run as far as its files are there; the number of runs that changed."""
        return self._try(lambda target: runs.publish(target, self._study, [(variant, seed)], []))

    def publish_variants(self, variants: Sequence[str]) -> int:
        """Publish all runs of `variants` and the parent run of each; the number of runs that changed."""
        former = outdated(self._study)
        if stale := [variant for variant in variants if variant in former]:
            _warn(
                f"not published: {', '.join(stale)}, and the report. {dvc.LOCK} has them with other parameters or data "
                f"than {params.PARAMS}: run `dvc repro`."
            )
        fresh = [variant for variant in variants if variant not in stale]
        wanted = [(variant, seed) for variant in fresh for seed in range(self._study.recipe(variant).seeds)]
        return self._try(lambda target: runs.publish(target, self._study, wanted, fresh))

    def publish_study(self) -> int:
        """Publish what aggregation made, as a run of its own; 1 if it was not there yet."""
        return self._try(lambda target: study_run.publish_study(target, self._study))

    def _try(self, publish: Callable[[Target], int]) -> int:
        if self.failed:
            return 0
        # Whatever a tracking server or its client library raises, the study's own results must not suffer from it.
        try:
            if self._target is None:
                self._target = connect(self._study)
            return publish(self._target)
        except UserError as error:
            self.failed = True
            _warn(f"nothing more is published: {error}. The study goes on without.")
        except Exception as error:  # noqa: BLE001
            self.failed = True
            _warn(
                f"MLflow at {address.shown_uri()} can't be written ({type(error).__name__}: {in_a_line(error)}). "
                "The study goes on; `make ui` publishes what is missing."
            )
        return 0


def _warn(message: str) -> None:
    print(redact(f"warning: {message}"), file=sys.stderr, flush=True)
