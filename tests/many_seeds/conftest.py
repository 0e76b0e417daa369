"""The command, run in an empty folder."""

from pathlib import Path

import pytest

from tests.support import command


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> command.Run:
    """Run `many-seeds verdict` in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return command.verdict
