"""The tracking URI, and the lock of publishers that use it."""

import fcntl
from pathlib import Path

import pytest

from stages.tracking import address


def test_users_of_a_shared_checkout_exclude_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("os.getuid", lambda: 1001)
    with address.lock(), Path("mlflow.db.lock").open() as of_another_user, pytest.raises(BlockingIOError):
        fcntl.flock(of_another_user, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_folder_in_which_no_file_can_be_made_is_left_to_the_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address.database_uri(tmp_path / "missing/mlflow.db"))
    with address.lock():
        assert not (tmp_path / "missing").exists()
