"""`make new`: a first study of custom data; and what removed variants leave."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from many_seeds.errors import UserError
from many_seeds.statistics.intervals import half_width
from many_seeds.statistics.levels import batch_level
from stages.study import dvc, params, paths
from stages.study.params import Params
from tests.conftest import STUDY
from tools import new, removed, training_time


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder own/ in the current folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own").mkdir()
    return Path("own")


def test_a_folder_of_photographs_of_several_sizes_gets_a_valid_study_with_few_seeds(own: Path) -> None:
    for name, size in (("cat", (30, 20)), ("dog", (20, 30))):
        (own / "pets" / name).mkdir(parents=True)
        Image.new("RGB", size).save(own / "pets" / name / "0.png")
    study = params.parse(new.starter("own/pets/", "pets"), "the starter")
    assert (study.data.format, study.data.train, study.data.size) == ("folders", "own/pets", [64, 64])
    assert 3 <= len(study.variants) <= 4
    assert {recipe.seeds for recipe in study.variants.values()} == {8}


def test_the_first_study_has_enough_seeds_for_verdicts(own: Path) -> None:
    np.savez(own / "a.npz", images=np.zeros((2, 2, 2), np.uint8))
    study = params.parse(new.starter("own/a.npz", "a"), "the starter")
    count = len(study.approaches) - 1 + len(study.comparisons)
    seeds = min(recipe.seeds for recipe in study.variants.values())
    alpha = 1 - study.statistics.confidence
    assert half_width(seeds, batch_level(1, count, alpha)) < 3  # standard deviations of the differences


def test_an_npz_file_needs_no_size_and_other_files_are_refused(own: Path) -> None:
    np.savez(own / "a.npz", images=np.zeros((2, 2, 2), np.uint8))
    assert new.data_section("own/a.npz", "a") == {"name": "a", "train": "own/a.npz", "format": "npz"}
    (own / "a.idx").write_text("")
    with pytest.raises(UserError, match=r"own/a\.idx should be a folder of images, an archive of one"):
        new.data_section("own/a.idx", "a")
    with pytest.raises(UserError, match="own/b: no such file or folder"):
        new.data_section("own/b", "b")


def test_parameters_that_are_not_committed_are_kept(own: Path) -> None:
    params.PARAMS.write_text(STUDY)
    with pytest.raises(UserError, match=r"params\.yaml would be replaced, but has changes that are not committed"):
        new.check_committed()


def test_what_removed_variants_left_is_moved_away_and_nothing_else(own: Path, study: Params) -> None:
    for name in ("plain", "gone"):
        (paths.RUNS / name).mkdir(parents=True)
        (paths.MODELS / name / "0").mkdir(parents=True)
        (paths.RUNS / name / "test.csv").write_text("in no commit")
    dvc.LOCK.write_text(
        "schema: '2.0'\nstages:\n  split: {cmd: a}\n  train@plain: {cmd: b}\n  train@former: {cmd: c}\n"
    )
    assert removed.removed_variants(study) == ["former", "gone"]
    removed.remove(["former", "gone"])
    assert removed.removed_variants(study) == []
    assert sorted(path.name for path in (*paths.RUNS.iterdir(), *paths.MODELS.iterdir())) == ["plain", "plain"]
    assert sorted(dvc.recorded()) == ["split", "train@plain"]
    assert (removed.FOLDER / "gone-1/runs/test.csv").read_text() == "in no commit"
    assert (removed.FOLDER / "gone-1/models/0").is_dir()
    (paths.RUNS / "gone").mkdir()
    removed.remove(["gone"])
    assert (removed.FOLDER / "gone-1/runs/test.csv").exists()
    assert (removed.FOLDER / "gone-2/runs").is_dir()


@pytest.mark.usefixtures("workspace")
def test_the_number_of_runs_and_roughly_their_time_are_told(study: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUDY_WORKERS", "2")
    said = training_time.describe(study, ["plain", "watched"], data_are_stale=False)
    assert said.startswith("To train: at most 4 runs of 2 variants, very roughly ")
    assert said.endswith(" with 2 at a time")
    assert "after `dvc repro split`" in training_time.describe(study, ["plain"], data_are_stale=True)
