"""The runs of the samples: trained again with today's code, in build/certify."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from many_seeds.errors import UserError
from stages.study import dvc, params, paths
from stages.study.params import Params
from stages.study.provenance import environments
from stages.study.provenance.environments import kind
from stages.study.records.splits import read_classes, read_images
from stages.train.dispatch import train_all
from stages.train.plan import finished, longest_first, plan
from stages.train.run import Run
from tools.certify.sample import Check, own_key

FOLDER = Path("build/certify")


class RetrainedRuns:
    """Runs that are trained again with today's code.

    Attributes:
        images: the training images.
        runs: every run of the variants to check, by variant and seed.
    """

    def __init__(self, study: Params, variants: Sequence[str]) -> None:
        """Plan the runs.

        Args:
            study: the parameters of the study.
            variants: variants to check; repeated names count once.

        Raises:
            UserError: the data are missing, or of other parameters.
        """
        if missing := [str(path) for path in (paths.TRAIN, paths.DEV, paths.TEST) if not path.exists()]:
            raise UserError(f"{', '.join(missing)} missing: run `dvc repro split`, which trains nothing")
        check_data(study)
        self.images, self._labels = read_images(paths.TRAIN)
        classes = len(read_classes(paths.TRAIN))
        planned = plan(study, list(dict.fromkeys(variants)), self.images, self._labels, classes)
        self.runs: Mapping[tuple[str, int], Run] = {(run.variant, run.seed): own_key(run) for run in planned}

    @property
    def folder(self) -> Path:
        """The folder of the runs, and of checkouts and virtual environments of the old code."""
        return FOLDER

    def run_folder(self, variant: str, seed: int) -> Path:
        return paths.run_path(variant, seed, FOLDER)

    def missing(self, checks: Sequence[Check]) -> list[Run]:
        """The runs of the samples that are not finished, the longest first."""
        sampled = [self.runs[check.variant, seed] for check in checks for seed in check.seeds]
        return longest_first([run for run in sampled if self.finished(run) is None], self.images.shape)

    def finished(self, run: Run) -> dict[str, Any] | None:
        """The run.json of a finished run that was trained on the kind of this processor; None without such a run."""
        facts = finished(run, FOLDER)
        same = facts is not None and kind(facts["processor"]) == kind(environments.processor())
        return facts if same else None

    def train(self, checks: Sequence[Check]) -> None:
        """Train the missing runs of the samples. The error of a run that fails is printed; the other runs are kept."""
        runs = self.missing(checks)
        if not runs:
            return
        print(f"training {len(runs)} runs in {FOLDER}", flush=True)
        try:
            train_all(runs, self.images, self._labels, on_finish=lambda variant, seed: None, folder=FOLDER)
        except UserError as error:
            print(error, flush=True)


def check_data(study: Params) -> None:
    """Check that the images and the splits are those of the parameters, which a certificate names.

    Raises:
        UserError: dvc.lock records other parameters of them.
    """
    expected = {"data": study.data.model_dump(exclude_unset=True), "split.dev_fraction": study.split.dev_fraction}
    recorded: dict[str, Any] = {}
    for stage in ("fetch", "split"):
        recorded |= dvc.recorded().get(stage, {}).get("params", {}).get(str(params.PARAMS), {})
    recorded["split.dev_fraction"] = recorded.get("split", {}).get("dev_fraction")
    if others := [key for key, value in expected.items() if recorded.get(key) not in (None, value)]:
        raise UserError(
            f"the images in {paths.TRAIN.parent} are of other values of {', '.join(others)} than {params.PARAMS}: run "
            "`dvc repro split`, which trains nothing"
        )
