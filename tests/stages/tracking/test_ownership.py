"""A server that others use too: the study touches what it made, and nothing else."""

import contextlib
import shlex
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow.cli import cli

from many_seeds.errors import UserError
from stages.study import params, paths
from stages.study.params import Params
from stages.tracking import address
from stages.tracking.__main__ import main as publish_by_hand
from stages.tracking.publisher import Publisher
from tests.conftest import STUDY
from tests.support.command import run_main
from tests.support.mlflow import client, content, runs
from tools.serving.register import register


@pytest.fixture
def workspace_with_report(aggregated: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Everything aggregated and nothing published; it is the current folder."""
    shutil.copy(empty_database, address.DATABASE)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address.tracking_uri())
    return aggregated


def publish(study: Params) -> Publisher:
    publisher = Publisher(study)
    publisher.publish_variants(list(study.variants))
    publisher.publish_study()
    return publisher


def dump(database: Path) -> list[str]:
    with contextlib.closing(sqlite3.connect(database)) as connection:
        return list(connection.iterdump())


def role(name: str) -> list[Any]:
    return [run for run in runs() if run.data.tags.get("role") == name]


def test_an_experiment_of_somebody_else_is_not_written_into(
    workspace_with_report: Path, study: Params, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = client().create_experiment("digits")
    client().create_run(theirs)
    before = dump(address.DATABASE)
    assert publish(study).failed
    said = capsys.readouterr().err
    assert said.count("warning:") == 1
    assert "the experiment 'digits'" in said
    assert "is not the study's own, and nothing is written into it: MLFLOW_EXPERIMENT_NAME=… names another" in said
    assert dump(address.DATABASE) == before
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "our digits")
    assert not publish(study).failed
    ours = client().get_experiment_by_name("our digits")
    assert len(client().search_runs([ours.experiment_id])) == 13
    assert "version 1 now" in register(study)
    assert len(client().search_runs([theirs])) == 1


def test_an_experiment_that_is_named_and_that_nobody_has_used_is_taken(
    workspace_with_report: Path, study: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a server lets its administrators alone make experiments."""
    client().create_experiment("given")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "given")
    assert Publisher(study).publish_variants(["plain"]) == 3


def test_two_data_sets_do_not_share_an_experiment(
    workspace_with_report: Path, study: Params, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "shared")
    Publisher(study).publish_variants(["plain"])
    other = params.parse(STUDY.replace("name: digits", "name: mnist"), "another data set")
    assert Publisher(other).publish_variants(["plain"]) == 0
    assert "is of the data set digits, not of mnist" in capsys.readouterr().err


def test_a_registered_model_of_somebody_else_keeps_its_alias(
    published: Path, study: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    client().create_registered_model("digits")
    theirs = client().create_model_version("digits", source="s3://theirs/model")
    client().set_registered_model_alias("digits", "champion", theirs.version)
    with pytest.raises(UserError, match=r"does not belong to the study.*set STUDY_MODEL_NAME to another name"):
        register(study)
    assert client().get_model_version_by_alias("digits", "champion").source == "s3://theirs/model"
    monkeypatch.setenv("STUDY_MODEL_NAME", "our-digits")
    assert register(study).startswith("models:/our-digits@champion is version 1 now")
    assert "as before" in register(study)
    assert client().get_model_version_by_alias("digits", "champion").source == "s3://theirs/model"


def test_runs_of_somebody_else_in_the_experiment_stay_as_they_are(published: Path, study: Params) -> None:
    experiment = client().get_experiment_by_name("digits").experiment_id
    theirs = client().create_run(experiment, tags={"role": "variant", "approach": "transformer", "variant": "plain"})
    publish(study)
    assert client().get_run(theirs.info.run_id).data.tags == theirs.data.tags


def test_the_seeds_of_a_deleted_parent_get_a_new_one(published: Path, study: Params) -> None:
    [former] = [run for run in role("variant") if run.info.run_name == "plain"]
    client().delete_run(former.info.run_id)
    publish(study)
    [parent] = [run for run in role("variant") if run.info.run_name == "plain"]
    seeds = [run for run in role("seed") if run.data.tags["variant"] == "plain"]
    assert [run.data.tags["mlflow.parentRunId"] for run in seeds] == [parent.info.run_id] * 2
    assert parent.data.metrics["seeds"] == 2


def test_a_deleted_experiment_ends_publishing_with_the_ways_out(
    workspace_with_report: Path, study: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    Publisher(study).publish_variants(["plain"])
    number = client().get_experiment_by_name("digits").experiment_id
    client().delete_experiment(number)
    refused = run_main(publish_by_hand)
    assert refused.status == 1
    assert "Traceback" not in refused.err
    restore = f"mlflow experiments restore --experiment-id {number}"
    remove = f"mlflow gc --backend-store-uri '{address.tracking_uri()}' --experiment-ids {number}"
    assert restore in refused.err
    assert remove in refused.err
    assert "MLFLOW_EXPERIMENT_NAME=… names another" in refused.err
    mlflow_command(restore)
    assert Publisher(study).publish_variants(["plain"]) == 0
    client().delete_experiment(number)
    mlflow_command(remove)
    assert Publisher(study).publish_variants(["plain"]) == 3


def mlflow_command(line: str) -> None:
    """Run a command line of MLflow's own program in this process."""
    program, *arguments = shlex.split(line)
    assert program == "mlflow"
    done = run_main(lambda: cli(arguments))
    assert done.status == 0, done.err


def model_files() -> Path:
    return Path(mlflow.artifacts.download_artifacts("models:/digits@champion"))


def test_a_checkout_that_was_moved_publishes_and_serves_from_its_new_place(
    published: Path, study: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(study)
    content_before = content()
    before = client().get_experiment_by_name("digits")
    moved = published.with_name("moved")
    published.rename(moved)
    monkeypatch.chdir(moved)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address.tracking_uri())
    assert not publish(study).failed
    assert content() == content_before
    assert "version 2 now" in register(study)
    assert model_files().is_relative_to(moved)
    [run] = [run for run in runs() if run.info.run_name == "watched seed 1"]
    assert [file.path for file in client().list_artifacts(run.info.run_id)] == ["model.keras", "run.json"]
    assert not published.exists()
    # What was noted on its runs, and those of experiments of DVC that are gone, can still be looked at.
    former = client().get_experiment(before.experiment_id)
    assert (former.name, former.lifecycle_stage) == (
        f"digits {before.experiment_id}, from {before.artifact_location}",
        "active",
    )
    assert len(client().search_runs([before.experiment_id])) == 13
    assert Publisher(study).publish_variants(list(study.variants)) == 0


def test_files_that_are_gone_are_published_again_and_the_model_registered_anew(published: Path, study: Params) -> None:
    register(study)
    before = content()
    shutil.rmtree(address.ARTIFACTS)
    publish(study)
    assert content() == before
    assert "version 2 now" in register(study)
    assert (model_files() / "MLmodel").exists()


def test_a_registration_that_fails_leaves_the_run_of_the_study_finished(
    published: Path, study: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    [before] = role("study")

    def fails(**_: Any) -> None:
        raise mlflow.exceptions.MlflowException("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(mlflow.pyfunc, "log_model", fails)
        with pytest.raises(UserError, match=r"the model is not registered: .* reports: the disk is full"):
            register(study)
    [after] = role("study")
    assert (after.info.status, after.info.end_time) == ("FINISHED", before.info.end_time)
    assert "version 1 now" in register(study)


def test_an_experiment_of_dvcs_queue_is_published_beside_the_runs_of_the_checkout(
    published: Path, study: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    experiment = client().get_experiment_by_name("digits")
    queued = published / ".dvc" / "tmp" / "exps" / "tmpabc"
    for name in (paths.MODELS, paths.RUNS):
        shutil.copytree(name, queued / name)
    monkeypatch.chdir(queued)
    monkeypatch.setenv("DVC_ROOT", str(published))
    monkeypatch.setenv("DVC_EXP_NAME", "wide-mole")
    changed = params.parse(
        STUDY.replace("dropout: 0.25", "dropout: 0.3").replace("MLP: watched", "MLP: plain"), "queued"
    )
    for seed in (0, 1):
        path = paths.run_path("plain", seed) / "run.json"
        text = path.read_text().replace('"key": "', f'"key": "{seed}')
        path.write_text(text.replace('"dropout": 0.25', '"dropout": 0.3'))
    assert Publisher(changed).publish_variants(["plain"]) > 0
    assert not address.DATABASE.exists()
    monkeypatch.chdir(published)
    found = {run.info.run_name for run in runs() if run.data.tags.get("dvc_experiment") == "wide-mole"}
    assert found == {"plain", "plain seed 0", "plain seed 1"}
    # Which approach is which is the checkout's to say.
    assert {run.info.run_name for run in runs() if "approach" in run.data.tags} == {"ridge", "watched"}
    assert client().get_experiment_by_name("digits").tags == experiment.tags
