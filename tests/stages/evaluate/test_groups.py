"""Groups from a user's file to the intervals for new images; a study whose accuracy falls as groups stay together."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from many_seeds.errors import UserError
from many_seeds.output import text
from many_seeds.statistics import new_images
from stages.evaluate.stage import evaluate
from stages.fetch.stage import fetch
from stages.split.stage import split
from stages.study import files, params, paths
from stages.study.comparisons import compare_evaluated, image_differences, settings_of
from stages.study.params import Params
from stages.study.records.results import find_results, read_results, write_results
from stages.study.records.splits import read_groups, read_images
from stages.study.scores import SCORES
from stages.train.dispatch import train_all
from stages.train.plan import plan
from stages.train.stage import gather
from tests.support import study as made

PATIENTS, EACH, SIDE = 200, 6, 16
STUDY = """\
data: {name: scans, format: npz, train: own/a.npz}
split: {dev_fraction: 0.2, seeds: 2}
variants:
  ridge: {family: ridge, seeds: 2, grid_powers: [-10, 24], tolerance: 8.0}
approaches: {linear: ridge}
comparisons: []
chains: {}
statistics: {confidence: 0.95, equivalence_margin: 0.05, reproduction_margin: 0.1, design: open}
"""


def scans() -> dict[str, np.ndarray]:
    """Images of ill and healthy patients: a strong pattern of the patient, a weak sign of the illness, and noise."""
    random = np.random.default_rng(0)
    patient = np.repeat(np.arange(PATIENTS), EACH)
    ill = patient % 2
    anatomy = random.normal(0, 30, (PATIENTS, SIDE, SIDE))
    sign = random.choice([-1.5, 1.5], (SIDE, SIDE))
    pixels = 128 + anatomy[patient] + sign * (2 * ill - 1)[:, None, None]
    pixels += random.normal(0, 10, pixels.shape)
    return {"images": pixels.clip(0, 255).astype(np.uint8), "labels": ill, "groups": patient}


def study_of(arrays: dict[str, Any]) -> Params:
    """Write a study of these arrays to the current folder, and train and evaluate it."""
    Path("own").mkdir(exist_ok=True)
    np.savez("own/a.npz", **arrays)
    Path("params.yaml").write_text(STUDY)
    study = params.load()
    fetch(study.data)
    split(study.split.dev_fraction, study.split.seeds)
    images, labels = read_images(paths.TRAIN)
    train_all(plan(study, ["ridge"], images, labels, 2), images, labels, on_finish=lambda variant, seed: None)
    gather("ridge", study.recipe("ridge"))
    evaluate(study, "ridge")
    return study


def test_accuracy_falls_where_the_images_of_a_patient_stay_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tensorflow_ready: None
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STUDY_WORKERS", "1")
    arrays = scans()
    study_of({name: arrays[name] for name in ("images", "labels")})
    mixed = read_results("ridge")
    study_of(arrays)
    together = read_results("ridge")
    # A model that knows the patients knows who is ill; of new patients it has only the weak sign.
    assert mixed.accuracy.min() > 0.95
    assert together.accuracy.max() < 0.8
    assert mixed.score("dev_accuracy").min() > 0.95
    assert together.score("dev_accuracy").max() < 0.8

    assert mixed.groups is None
    assert together.groups is not None
    np.testing.assert_array_equal(together.groups, read_groups(paths.TEST), strict=True)
    assert np.bincount(together.groups).tolist() == [EACH] * (PATIENTS // 5)


class TestResults:
    def test_files_without_groups_keep_their_bytes(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        made.write()
        results = read_results("plain")
        assert results.groups is None
        path = paths.predictions_path("plain")
        path.unlink()  # a file that has the arrays stays as it is
        write_results(results)
        before = path.read_bytes()
        write_results(replace(results, groups=np.arange(200, dtype=np.int32)))
        assert path.read_bytes() != before
        assert list(files.read_arrays(path))[-1] == "groups"
        write_results(replace(read_results("plain"), groups=None))
        assert path.read_bytes() == before

    @pytest.mark.parametrize("groups", [np.arange(199), np.full(200, 0.5), np.zeros((200, 2), int)])
    def test_groups_of_other_images_are_refused(
        self, groups: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        made.write()
        write_results(replace(read_results("plain"), groups=groups))
        with pytest.raises(UserError, match=r"predictions\.npz should have groups as whole numbers \[200\]"):
            find_results("plain")


class TestComparisons:
    GROUPS = np.repeat(np.arange(40), 5)  # of the 200 images
    NAMES = ("plain", "wider")

    def runs(self, *groups: np.ndarray | None) -> list[made.VariantRuns]:
        runs = made.runs()
        return [replace(runs[name], groups=of) for name, of in zip(self.NAMES, groups, strict=True)]

    def widths(self, *groups: np.ndarray | None) -> float | None:
        """The width of the interval for new images of a comparison of variants with these groups."""
        a, b = self.runs(*groups)
        score = SCORES["accuracy"]
        settings = settings_of(made.study().statistics, score, a.truth, ordered=True)
        result = compare_evaluated(*self.NAMES, a, b, score=score, level=0.05, settings=settings)
        if result.low_new_images is None or result.high_new_images is None:
            return None
        return result.high_new_images - result.low_new_images

    def test_the_interval_for_new_images_is_that_of_groups(self) -> None:
        a, b = self.runs(self.GROUPS, self.GROUPS)
        differences = image_differences(a, b, SCORES["accuracy"])
        assert differences is not None
        error = new_images.standard_error(differences, resolution=0.5, groups=self.GROUPS)
        single = new_images.standard_error(differences, resolution=0.5)
        assert error is not None
        assert single is not None
        assert error > single
        accuracy = [100 * of.accuracy[:10] for of in (a, b)]
        sd = max(float((accuracy[1] - accuracy[0]).std(ddof=1)), 0.5)
        assert self.widths(self.GROUPS, self.GROUPS) == pytest.approx(2 * new_images.half_width(10, sd, error, 0.05))
        assert self.widths(None, None) == pytest.approx(2 * new_images.half_width(10, sd, single, 0.05))
        assert self.widths(np.arange(200), np.arange(200)) == pytest.approx(self.widths(None, None))

    def test_there_is_none_with_few_groups_or_where_sides_have_other_groups(self) -> None:
        few = np.arange(200) % 29
        assert self.widths(few, few) is None
        assert self.widths(self.GROUPS, None) is None
        assert self.widths(self.GROUPS, self.GROUPS[::-1]) is None

    def test_the_guarantee_says_that_groups_are_independent(self) -> None:
        runs = {name: replace(of, groups=self.GROUPS) for name, of in made.runs().items()}
        found = text.guarantee(made.compared(runs, made.study()))[1]
        assert "new test images, drawn in groups like these, where groups of images are independent;" in found
        single = text.guarantee(made.compared(made.runs(), made.study()))[1]
        assert "new test images, drawn independently like these;" in single
