"""The study of the candidates: its parameters, and its folder with the training images alone."""

import shutil
from pathlib import Path

import pytest

from benchmarks.candidates import __main__ as candidates
from stages.fetch.stage import fetch
from stages.split.stage import split
from stages.study import params, paths
from stages.study.records.splits import read_images
from tests import ROOT
from tests.tools.test_settle import quiet as quiet
from tools.settle.loop import settle
from tools.settle.study import GrowingStudy

# The study with two cheap candidates.
ELM = "{family: ridge, seeds: 2, grid_powers: [-14, 8], tolerance: 8.0, weight_sd: 0.2, hidden_units"
VARIANTS = f"variants:\n  tuned: {ELM}: 40}}\n  wide: {ELM}: 60}}\n\n"

COPIED = ["own/README.md", "dvc.yaml", "requirements.lock", ".dvc/config"]  # all that is read here


@pytest.fixture
def prepared(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The prepared folder in that of a study on the digits, with two candidates."""
    monkeypatch.setattr("tools.demo.COPIED", COPIED)
    for name in COPIED:
        (workspace / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, workspace / name)
    monkeypatch.setattr(candidates, "DATA", "digits")
    monkeypatch.setattr("sys.argv", ["candidates"])
    candidates.main()
    return workspace / candidates.FOLDER


def two_candidates(text: str) -> str:
    start, end = text.index("variants:"), text.index("approaches:")
    listed = text.index("      ["), text.index("    score: validation_accuracy")
    return f"{text[:start]}{VARIANTS}{text[end : listed[0]]}      [tuned, wide]\n{text[listed[1] :]}"


def test_all_candidates_take_part_in_the_race() -> None:
    study = params.load(candidates.STUDY)
    assert study.races["candidates"].variants == list(study.variants)
    assert study.races["candidates"].score == "validation_accuracy"


def test_the_race_draws_its_test_images_from_the_training_images_of_the_study(
    prepared: Path,
    tensorflow_ready: None,
    quiet: list[tuple[str, ...]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    training = {image.tobytes() for image in read_images(paths.TRAIN)[0]}
    assert candidates.STUDY.read_text() == (prepared / params.PARAMS).read_text()
    monkeypatch.chdir(prepared)
    params.PARAMS.write_text(two_candidates(params.PARAMS.read_text()))
    study = params.load()
    fetch(study.data)
    split(study.split.dev_fraction, 8)
    drawn = {image.tobytes() for path in (paths.TRAIN, paths.TEST) for image in read_images(path)[0]}
    assert drawn == training
    assert len(read_images(paths.TEST)[0]) == pytest.approx(0.1 * 1437, abs=10)
    settle(GrowingStudy("candidates", most=3), hours=float("inf"))
    output = capsys.readouterr().out
    assert "candidates: 2 → 3 seeds, 2 runs" in output
    assert "candidates: which is best, by validation accuracy, margin 0.05 percentage points" in output


def test_only_the_images_of_mnist_are_taken(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["candidates"])
    with pytest.raises(SystemExit, match="should be mnist, whose training images are used, received digits"):
        candidates.main()
