"""What the results say of their commit where git can't tell."""

from pathlib import Path

import pytest

from stages.study import git


def test_where_git_is_not_installed_there_is_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git.code_commit() is None


def test_in_a_folder_that_git_does_not_know_there_is_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert git.code_commit() is None
