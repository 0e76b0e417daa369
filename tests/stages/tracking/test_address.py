"""The tracking URI, and the lock of publishers that use it."""

import errno
import fcntl
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from stages.tracking import address


def test_users_of_a_shared_checkout_exclude_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("os.getuid", lambda: 1001)
    with address.lock(), Path("mlflow.db.lock").open() as of_another_user, pytest.raises(BlockingIOError):
        fcntl.flock(of_another_user, fcntl.LOCK_EX | fcntl.LOCK_NB)


def is_locked(path: Path) -> bool:
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def test_the_group_can_lock_the_file_of_a_user_whose_umask_hides_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    umask = os.umask(0o077)
    try:
        with address.lock():
            assert stat.S_IMODE(Path("mlflow.db.lock").stat().st_mode) == 0o660
    finally:
        os.umask(umask)


def test_a_file_system_that_locks_only_files_open_for_writing_has_the_lock_beside_the_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As NFS does."""
    flock = fcntl.flock

    def flock_of_nfs(file: Any, operation: int) -> None:
        if fcntl.fcntl(file, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        flock(file, operation)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(fcntl, "flock", flock_of_nfs)
    with address.lock():
        assert is_locked(Path("mlflow.db.lock"))


def test_where_no_file_can_be_locked_beside_the_database_a_temporary_one_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flock, refusals = fcntl.flock, [OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))]

    def flock_elsewhere(file: Any, operation: int) -> None:
        if refusals:
            raise refusals.pop()
        flock(file, operation)

    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    monkeypatch.setattr(fcntl, "flock", flock_elsewhere)
    with address.lock():
        assert [is_locked(path) for path in temporary.iterdir()] == [True]


def test_a_folder_in_which_no_file_can_be_made_is_left_to_the_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address.database_uri(tmp_path / "missing/mlflow.db"))
    with address.lock():
        assert not (tmp_path / "missing").exists()
