"""Custom data that are not in the folder of a queued experiment."""

from pathlib import Path

import pytest

from many_seeds.errors import UserError
from stages.fetch.custom import fetch_custom


def test_in_an_experiment_the_error_for_missing_data_says_how_ignored_files_get_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as outside:
        fetch_custom("train", "own/shapes", None, tmp_path / "train")
    assert str(outside.value).endswith("put it there, or fix data.train in params.yaml")
    monkeypatch.setenv("DVC_EXP_NAME", "queued")
    with pytest.raises(UserError, match="`dvc exp run --queue -C own/shapes`"):
        fetch_custom("train", "own/shapes", None, tmp_path / "train")
