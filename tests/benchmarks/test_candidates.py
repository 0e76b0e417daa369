"""Candidates are judged by validation images only, with seeds that no comparison uses."""

from pathlib import Path

import pytest

from benchmarks import candidates
from many_seeds.errors import UserError
from stages.split.stage import split
from stages.study import files, paths

TWO = """\
small: &small
  {family: network, seeds: 2, filters: [], pool: [], conv_dropout: [], units: [8], dropout: 0.0, precision: float32,
   initializer: glorot_uniform, learning_rate: 0.002, decay: null, batch_size: 64, epochs: 2, dev_split: true,
   patience: null, restore_best: false}
wide: {<<: *small, units: [32], seeds: 1}
"""


@pytest.fixture
def tried(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a study that has the dev images of seeds 200 and 201, no test images, and two candidates."""
    split(0.2, 202)
    paths.TEST.unlink()
    (workspace / "candidates.yaml").write_text(TWO)
    monkeypatch.setattr(candidates, "CANDIDATES", workspace / "candidates.yaml")
    monkeypatch.setattr(candidates, "SCORES", workspace / "candidates.csv")
    monkeypatch.setattr("sys.argv", ["candidates"])
    monkeypatch.setenv("STUDY_WORKERS", "1")  # in this process, where TensorFlow is imported already
    return workspace


@pytest.mark.usefixtures("tensorflow_ready")
def test_each_candidate_gets_the_dev_scores_of_its_seeds_and_no_run_is_trained_twice(
    tried: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    candidates.main()
    path = tried / "candidates.csv"
    rows = files.read_table(path, candidates.COLUMNS)
    assert list(zip(rows["candidate"], rows["seed"], strict=True)) == [("small", 200), ("small", 201), ("wide", 200)]
    assert rows["dev_accuracy"].between(0.1, 1).all()
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("small"))
    assert f"{rows['dev_accuracy'][:2].mean():.5f}".rstrip("0") in line
    # What is there stays as it is; what a changed recipe had is trained anew.
    files.write_table(path, rows.assign(seconds=[1.0, 2.0, 3.0]))
    (tried / "candidates.yaml").write_text(TWO.replace("[32]", "[16]"))
    candidates.main()
    again = files.read_table(path, candidates.COLUMNS)
    assert list(again["seconds"][:2]) == [1.0, 2.0]
    assert again["key"][2] != rows["key"][2]
    # One that is not asked for keeps what it had.
    (tried / "candidates.yaml").write_text(TWO.replace("epochs: 2", "epochs: 1"))
    capsys.readouterr()
    monkeypatch.setattr("sys.argv", ["candidates", "wide"])
    candidates.main()
    last = files.read_table(path, candidates.COLUMNS)
    assert last["epochs"].tolist() == [2, 2, 1]
    assert "2 runs of candidates.csv are of other recipes" in capsys.readouterr().out


def test_a_candidate_without_dev_images_is_refused(tried: Path) -> None:
    (tried / "candidates.yaml").write_text(TWO.replace("dev_split: true", "dev_split: false"))
    with pytest.raises(UserError, match="small: should be a network with dev_split: true"):
        candidates.read_candidates(tried / "candidates.yaml")


@pytest.mark.parametrize("text", ["", "[1, 2]", "a: {b: {{", "a: 1\na: 2\n", "a: 1\n", "\0"])
def test_a_file_of_candidates_that_is_none_is_refused_by_name(text: str, tmp_path: Path) -> None:
    path = tmp_path / "candidates.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=f"^{path} "):
        candidates.read_candidates(path)
