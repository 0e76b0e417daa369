"""A study published to real MLflow servers says there what it says in the local database."""

import subprocess
import sys
from pathlib import Path

import pytest

from stages.study import paths
from stages.study.params import Params
from stages.tracking.address import KEY
from stages.tracking.publisher import Publisher
from tests.support.mlflow import client, content, mlflow_server, postgresql, postgresql_programs, runs, sqlite

PUBLISH = [sys.executable, "-m", "stages.tracking"]


def test_a_server_holds_every_run_and_file_and_two_publishers_at_once_add_nothing(
    published: Path, empty_database: Path, study: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On PostgreSQL, if it is here."""
    local = content()
    opened = postgresql() if postgresql_programs() else sqlite(empty_database)
    with opened as store, mlflow_server(store, tmp_path / "artifacts") as address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        both = [subprocess.Popen(PUBLISH, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
        answers = [process.communicate() for process in both]
        assert [process.returncode for process in both] == [0, 0], answers
        assert content() == local
        keys = [run.data.tags[KEY] for run in runs()]
        assert len(keys) == len(set(keys)) == len(local)
        [run] = [run for run in runs() if run.info.run_name == "watched seed 1"]
        copy = client().download_artifacts(run.info.run_id, "model.keras", str(tmp_path))
        assert Path(copy).read_bytes() == (paths.run_path("watched", 1) / "model.keras").read_bytes()
        assert Publisher(study).publish_variants(list(study.variants)) == 0
