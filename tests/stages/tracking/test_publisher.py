"""Against a real MLflow database of the test's own. `Publisher` may warn, but never fails."""

import contextlib
import json
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.entities import ViewType
from mlflow.protos.databricks_pb2 import ErrorCode
from ruamel.yaml import YAML

from stages.study import dvc, files, params, paths
from stages.study.params import Params
from stages.study.provenance import environments
from stages.study.records.current import outdated
from stages.study.records.results import VariantResults, read_results, write_results
from stages.tracking import address, results
from stages.tracking import published as record
from stages.tracking.__main__ import main
from stages.tracking.publisher import Publisher
from tests.conftest import STUDY
from tests.support.mlflow import client, content, runs
from tests.support.results import write_accuracy

WRITERS = [
    "create_run",
    "log_batch",
    "log_inputs",
    "set_tag",
    "log_artifact",
    "set_terminated",
    "update_run",
    "delete_run",
]


@pytest.fixture
def unpublished(evaluated: Path, empty_database: Path) -> Path:
    """A workspace with every run evaluated, and an MLflow database without runs; it is the current folder."""
    shutil.copy(empty_database, address.DATABASE)
    return evaluated


@pytest.fixture
def read_only(published_study: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A published study that tests must not change, as the current folder."""
    monkeypatch.chdir(published_study)
    return published_study


def run_of(variant: str, seed: int) -> Any:
    [run] = [run for run in runs() if (run.data.tags.get("variant"), run.data.tags.get("seed")) == (variant, str(seed))]
    return run


def parent_of(variant: str) -> Any:
    [run] = [run for run in runs() if run.data.tags.get("variant") == variant and run.data.tags["role"] == "variant"]
    return run


def dump() -> list[str]:
    with contextlib.closing(sqlite3.connect(address.DATABASE)) as connection:
        return list(connection.iterdump())


@contextlib.contextmanager
def breaking_off(after: int) -> Iterator[list[str]]:
    """MLflow fails at every call that would write something, after so many that succeed; the names of those."""
    done: list[str] = []

    def breakable(name: str) -> Any:
        real = getattr(mlflow.MlflowClient, name)

        def call(self: Any, *arguments: Any, **named: Any) -> Any:
            if len(done) >= after:
                raise ConnectionError("the line is dead")
            done.append(name)
            return real(self, *arguments, **named)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in WRITERS:
            patch.setattr(mlflow.MlflowClient, name, breakable(name))
        yield done


def test_every_run_is_published_under_a_parent_for_its_variant(unpublished: Path, study: Params) -> None:
    # Eight runs, and the means of four parents.
    assert Publisher(study).publish_variants(list(study.variants)) == 12
    names = Counter(run.info.run_name for run in runs())
    seeds = [f"{variant} seed {seed}" for variant in study.variants for seed in (0, 1)]
    assert names == Counter([*study.variants, *seeds])
    for variant in study.variants:
        for seed in (0, 1):
            assert run_of(variant, seed).data.tags["mlflow.parentRunId"] == parent_of(variant).info.run_id
    assert {run.info.status for run in runs()} == {"FINISHED"}


def test_a_published_run_says_what_its_files_say(read_only: Path, tmp_path: Path) -> None:
    run = run_of("watched", 1)
    facts = files.read_json(paths.run_path("watched", 1) / "run.json")
    assert run.data.params == {name: str(value) for name, value in {**facts["parameters"], "seed": 1}.items()}
    assert "seeds" not in run.data.params
    curves = pd.read_csv(paths.curves_path("watched"))
    curves = curves[curves["seed"] == 1]
    for name in ("loss", "accuracy", "val_loss", "val_accuracy", "learning_rate"):
        history = client().get_metric_history(run.info.run_id, name)
        assert [(m.step, m.value) for m in history] == list(zip(curves["epoch"], curves[name], strict=True))
    scores = read_results("watched").scores.set_index("seed").loc[1]
    for name in ("test_accuracy", "test_loss", "dev_accuracy", "dev_loss", "epochs", "best_epoch"):
        assert run.data.metrics[name] == scores[name]
    tags = run.data.tags
    assert (tags["variant"], tags["family"], tags["seed"]) == ("watched", "network", "1")
    assert (tags["study.key"], tags["data"]) == (facts["key"], facts["digests"]["data"])
    assert (tags["environment"], tags["processor"]) == (str(environments.of_run(facts)), facts["processor"])
    assert {name: tags[name] for name in ("keras", "tensorflow")}.items() <= facts["versions"].items()
    assert "scipy" not in tags
    [dataset] = run.inputs.dataset_inputs
    assert dataset.dataset.name == "digits"
    for name in ("model.keras", "run.json"):
        copy = client().download_artifacts(run.info.run_id, name, str(tmp_path))
        assert Path(copy).read_bytes() == (paths.run_path("watched", 1) / name).read_bytes()
    assert run.info.start_time == int(facts["started"] * 1000)
    assert run.info.end_time - run.info.start_time == pytest.approx(facts["seconds"] * 1000, abs=2)


def test_a_run_whose_model_is_not_here_has_the_environment_that_was_recorded_with_its_scores(
    unpublished: Path, study: Params
) -> None:
    shutil.rmtree(paths.MODELS / "watched")
    Publisher(study).publish_variants(["watched"])
    tags, row = run_of("watched", 1).data.tags, read_results("watched").environments.iloc[1]
    assert (tags["environment"], tags["processor"]) == (row["environment"], row["processor"])
    assert f"keras={tags['keras']} " in row["environment"]


@pytest.mark.parametrize("with_models", [True, False])
def test_runs_that_earlier_code_published_are_known_by_their_key_and_brought_up_to_date(
    unpublished: Path, study: Params, with_models: bool
) -> None:
    """Version 1 published the three parts of a run one by one, and no environment."""
    if not with_models:
        shutil.rmtree(paths.MODELS)
    Publisher(study).publish_variants(["watched"])
    expected = content()
    for run in (run_of("watched", 0), run_of("watched", 1)):
        for tag in {"study.content", "study.model", "environment", "processor"} & run.data.tags.keys():
            client().delete_tag(run.info.run_id, tag)
        for part in ("training", "scores", "files"):
            client().set_tag(run.info.run_id, f"study.{part}", "its digest")
    assert Publisher(study).publish_variants(["watched"]) == 2
    assert content() == expected
    assert Publisher(study).publish_variants(["watched"]) == 0


def test_a_search_for_alpha_is_published_as_a_curve(read_only: Path) -> None:
    search = pd.read_csv(paths.run_path("ridge", 0) / "curves.csv")
    history = client().get_metric_history(run_of("ridge", 0).info.run_id, "alpha")
    assert sorted((m.step, m.value) for m in history) == list(enumerate(search["alpha"]))


def test_a_parent_shows_the_mean_and_the_spread_of_its_seeds(read_only: Path) -> None:
    scores = read_results("plain").scores["test_accuracy"]
    metrics = parent_of("plain").data.metrics
    assert metrics["test_accuracy"] == round((scores[0] + scores[1]) / 2, 4)
    assert metrics["test_accuracy_sd"] == round(abs(scores[0] - scores[1]) / 2**0.5, 4)
    assert metrics["seeds"] == 2
    assert metrics.keys() == {"seeds"} | {f"test_{of}{end}" for of in ("accuracy", "loss") for end in ("", "_sd")}


def test_publishing_twice_adds_nothing(published: Path, study: Params) -> None:
    before = dump()
    assert Publisher(study).publish_variants(list(study.variants)) == 0
    assert Publisher(study).publish("plain", 0) == 0
    assert dump() == before


def without_scores(variant: str) -> VariantResults:
    """Leave the workspace as training leaves it; what evaluation had written."""
    evaluated = read_results(variant)
    for path in paths.result_paths(variant):
        if path != paths.curves_path(variant):
            path.unlink()
    return evaluated


def test_a_run_is_published_when_its_training_ends_and_gets_its_scores_when_it_is_evaluated(
    unpublished: Path, study: Params
) -> None:
    evaluated = without_scores("watched")
    assert Publisher(study).publish("watched", 0) == 1
    before = run_of("watched", 0)
    assert before.info.status == "FINISHED"
    assert "loss" in before.data.metrics
    assert "test_accuracy" not in before.data.metrics
    assert Publisher(study).publish("watched", 0) == 0
    write_results(evaluated)
    Publisher(study).publish_variants(["watched"])
    after = run_of("watched", 0)
    assert after.info.run_id == before.info.run_id  # a link to it stays valid
    assert after.data.metrics["test_accuracy"] == evaluated.scores["test_accuracy"][0]
    assert len(client().get_metric_history(after.info.run_id, "loss")) == after.data.metrics["epochs"]
    assert (after.info.start_time, after.info.end_time) == (before.info.start_time, before.info.end_time)


def test_runs_that_end_at_the_start_of_a_training_are_published_with_the_next_one(
    unpublished: Path, study: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher = Publisher(study, delay=30)
    assert publisher.publish("watched", 0) == 0
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 31)
    assert publisher.publish("watched", 1) == 2
    assert publisher.publish("plain", 0) == 1


@pytest.mark.parametrize("after", [1, 2])
def test_scores_of_which_half_was_written_are_published_whole(unpublished: Path, study: Params, after: int) -> None:
    Publisher(study).publish("watched", 0)
    whole = content()["watched seed 0"]
    client().delete_run(run_of("watched", 0).info.run_id)
    evaluated = without_scores("watched")
    Publisher(study).publish("watched", 0)
    write_results(evaluated)
    with breaking_off(after):
        Publisher(study).publish("watched", 0)
    assert content()["watched seed 0"]["status"] == "RUNNING"
    Publisher(study).publish("watched", 0)
    assert content()["watched seed 0"] == whole


def test_a_workspace_that_has_less_leaves_what_another_has_published(published: Path, study: Params) -> None:
    before = content()
    evaluated = without_scores("watched")
    assert Publisher(study).publish_variants(["watched"]) == 0
    write_results(evaluated)
    shutil.rmtree(paths.MODELS)
    assert Publisher(study).publish_variants(["watched"]) == 0
    assert content() == before


def test_a_clone_without_models_adds_scores_to_the_runs_of_another(unpublished: Path, study: Params) -> None:
    evaluated = without_scores("watched")
    Publisher(study).publish_variants(["watched"])
    before = run_of("watched", 0)
    write_results(evaluated)
    shutil.rmtree(paths.MODELS)
    Publisher(study).publish_variants(["watched"])
    after = run_of("watched", 0)
    assert (after.info.run_id, after.info.end_time) == (before.info.run_id, before.info.end_time)
    assert "test_accuracy" in after.data.metrics
    assert "model.keras" in after.data.tags["mlflow.note.content"]


def test_a_run_whose_curves_differ_is_replaced(published: Path, study: Params) -> None:
    before = run_of("watched", 0)
    path = paths.run_path("watched", 0) / "curves.csv"
    curves = pd.read_csv(path)
    files.write_table(path, curves.assign(loss=curves["loss"] + 1))
    assert Publisher(study).publish("watched", 0) == 1
    after = run_of("watched", 0)
    assert after.info.run_id != before.info.run_id
    history = client().get_metric_history(after.info.run_id, "loss")
    assert [point.value for point in history] == pytest.approx(list(curves["loss"] + 1))


def test_the_scores_of_a_model_that_was_replaced_are_not_published(unpublished: Path, study: Params) -> None:
    facts = [files.read_json(paths.run_path("plain", seed) / "run.json") for seed in (0, 1)]
    facts[0]["key"] = "of a newer model"
    facts[1]["digests"]["model"] = "of other bits"
    for seed in (0, 1):
        files.write_json(paths.run_path("plain", seed) / "run.json", facts[seed])
        Publisher(study).publish("plain", seed)
        assert "loss" in run_of("plain", seed).data.metrics
        assert "test_accuracy" not in run_of("plain", seed).data.metrics
    assert run_of("plain", 0).data.tags["study.key"] == "of a newer model"


def test_new_scores_replace_the_old_ones(published: Path, study: Params) -> None:
    write_accuracy("plain", [0.25, 0.75])
    assert Publisher(study).publish_variants(["plain"]) == 3
    assert len(runs()) == 13
    assert [run_of("plain", seed).data.metrics["test_accuracy"] for seed in (0, 1)] == [0.25, 0.75]
    assert parent_of("plain").data.metrics["test_accuracy"] == 0.5


def test_a_run_that_predicts_one_class_only_has_a_tag(unpublished: Path, study: Params) -> None:
    old = read_results("plain")
    predicted = np.stack([np.full_like(old.truth, 3), old.predicted[1]])
    accuracy = (predicted == old.truth).mean(axis=1)
    write_results(replace(old, predicted=predicted, scores=old.scores.assign(test_accuracy=accuracy)))
    Publisher(study).publish_variants(["plain"])
    assert run_of("plain", 0).data.tags["warning"] == "predicts one class only"
    assert "warning" not in run_of("plain", 1).data.tags
    assert "predicts_one_class" not in run_of("plain", 0).data.metrics


def test_a_workspace_without_models_publishes_its_runs_from_metrics_alone(unpublished: Path, study: Params) -> None:
    shutil.rmtree(paths.MODELS)
    assert Publisher(study).publish_variants(["plain", "watched"]) == 6
    for variant in ("plain", "watched"):
        for seed in (0, 1):
            run = run_of(variant, seed)
            assert {"val_loss" if variant != "plain" else "loss", "test_accuracy"} <= run.data.metrics.keys()
            assert run.data.params["seed"] == str(seed)
            # The time between start and end would be that of its publication.
            assert (run.info.status, run.info.end_time) == ("FINISHED", None)
            assert "model.keras" not in run.data.tags["mlflow.note.content"]


def test_models_that_arrive_later_are_added_to_the_runs_published_from_metrics(
    unpublished: Path, study: Params
) -> None:
    paths.MODELS.rename("elsewhere")
    Publisher(study).publish_variants(["watched"])
    before = run_of("watched", 0)
    Path("elsewhere").rename(paths.MODELS)
    Publisher(study).publish_variants(["watched"])
    after = run_of("watched", 0)
    assert after.info.run_id == before.info.run_id
    assert [file.path for file in client().list_artifacts(after.info.run_id)] == ["model.keras", "run.json"]
    assert "model.keras" in after.data.tags["mlflow.note.content"]
    seconds = files.read_json(paths.run_path("watched", 0) / "run.json")["seconds"]
    assert after.info.end_time - after.info.start_time == pytest.approx(seconds * 1000, abs=2)
    history = client().get_metric_history(after.info.run_id, "val_loss")
    assert len(history) == after.data.metrics["epochs"]


def test_a_workspace_without_any_run_publishes_none(workspace: Path, study: Params, empty_database: Path) -> None:
    shutil.copy(empty_database, address.DATABASE)
    assert Publisher(study).publish_variants(list(study.variants)) == 0
    assert not [run for run in runs() if run.data.tags["role"] == "seed"]


@pytest.fixture(scope="module")
def undisturbed(
    evaluated_study: Path, empty_database: Path, study: Params, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, Any], int]:
    """What a publication of one run and its parent leaves, and the number of calls it takes."""
    folder = tmp_path_factory.mktemp("undisturbed") / "study"
    shutil.copytree(evaluated_study, folder)
    shutil.copy(empty_database, folder / address.DATABASE)
    with pytest.MonkeyPatch.context() as patch, breaking_off(after=99) as calls:
        patch.chdir(folder)
        Publisher(study).publish("watched", 0)
        return content(), len(calls)


def test_a_publication_that_broke_off_anywhere_is_made_whole_by_the_next(
    unpublished: Path,
    study: Params,
    empty_database: Path,
    undisturbed: tuple[dict[str, Any], int],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole, count = undisturbed
    assert count > 10
    odd = []
    for after in range(count):
        folder = unpublished / f"after-{after}"
        folder.mkdir()
        for name in ("models", "metrics"):
            (folder / name).symlink_to(unpublished / name)
        shutil.copy(empty_database, folder / address.DATABASE)
        monkeypatch.chdir(folder)
        with breaking_off(after) as calls:
            assert Publisher(study).publish("watched", 0) == 0
        assert "the line is dead" in capsys.readouterr().err
        Publisher(study).publish("watched", 0)
        said = capsys.readouterr().err
        found = content()
        different = [
            f"{run} {part}: {found[run][part]}"
            for run in whole
            for part in whole[run]
            if found[run][part] != whole[run][part]
        ]
        if said or different or found.keys() != whole.keys():
            odd.append(f"broken off after {len(calls)} calls, the last {calls[-1:]}: {said} {different}")
    assert not odd, "\n\n".join(odd)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("create_experiment", "Experiment(name=digits) already exists."),
        ("log_batch", 'duplicate key value violates unique constraint "param_pk"'),
    ],
)
def test_publishing_goes_on_after_another_machine_wrote_the_same_at_the_same_moment(
    call: str,
    message: str,
    unpublished: Path,
    study: Params,
    undisturbed: tuple[dict[str, Any], int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    written = getattr(mlflow.MlflowClient, call)

    def collide(*arguments: Any, **named: Any) -> None:
        monkeypatch.setattr(mlflow.MlflowClient, call, written)
        written(*arguments, **named)
        code = ErrorCode.Value("RESOURCE_ALREADY_EXISTS" if call == "create_experiment" else "BAD_REQUEST")
        raise mlflow.MlflowException(message, error_code=code)

    monkeypatch.setattr(mlflow.MlflowClient, call, collide)
    publisher = Publisher(study)
    publisher.publish("watched", 0)
    assert (publisher.failed, capsys.readouterr().err) == (False, "")
    assert content() == undisturbed[0]


def test_a_dead_server_costs_one_warning_and_no_exception(
    unpublished: Path, study: Params, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    publisher = Publisher(study)
    assert publisher.publish("plain", 0) == 0
    assert publisher.publish("plain", 1) == 0
    said = capsys.readouterr().err
    assert said.count("warning:") == 1
    assert f"MLflow at http://127.0.0.1:{port} can't be written" in said
    assert "`make ui` publishes what is missing" in said
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert Publisher(study).publish_variants(["plain"]) == 3


def test_a_read_only_database_costs_one_warning_and_no_exception(
    unpublished: Path, study: Params, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Publisher(study).publish("ridge", 0)
    before = dump()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///file:{address.DATABASE.resolve()}?mode=ro&uri=true")
    publisher = Publisher(study)
    assert publisher.publish("plain", 0) == 0
    assert publisher.publish_variants(["plain"]) == 0
    said = capsys.readouterr().err
    assert said.count("warning:") == 1
    assert "readonly" in said
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert dump() == before


def test_a_database_with_options_in_its_uri_is_written_and_none_of_another_name_beside_it(
    evaluated: Path, study: Params, empty_database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(empty_database, "runs.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///runs.db?timeout=30")
    assert Publisher(study).publish("ridge", 0) == 1
    assert [path.name for path in evaluated.glob("*.db*")] == ["runs.db"]
    assert [run.info.run_name for run in runs() if "seed" in run.data.tags] == ["ridge seed 0"]


def test_one_run_that_cannot_be_read_is_named_and_costs_no_other(
    unpublished: Path, study: Params, capsys: pytest.CaptureFixture[str]
) -> None:
    (paths.run_path("ridge", 1) / "run.json").write_text("{")
    Publisher(study).publish_variants(["ridge", "plain"])
    said = capsys.readouterr().err
    assert "models/ridge/1/run.json" in said
    assert "MLflow at" not in said  # which is well
    names = {run.info.run_name for run in runs()}
    assert {"ridge seed 0", "plain seed 0", "plain seed 1"} <= names


# One process imports MLflow for all publishers.
PUBLISHERS = """
import os, sys
import mlflow.store.db.utils as database
from stages.tracking.__main__ import main

def start():
    if child := os.fork():
        return child
    main()
    sys.exit()

def status(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

upgrade = database._upgrade_db
database._upgrade_db = lambda engine: os._exit(9)  # its tables are there, but not yet which version they are of
print(status(start()), os.path.exists("mlflow.db"), flush=True)
database._upgrade_db = upgrade
both = [start(), start()]
print([status(child) for child in both])
"""


def test_after_a_kill_while_the_database_was_made_two_publishers_at_once_make_it_and_leave_no_run_twice(
    evaluated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a folder whose name is not valid in a URI."""
    odd = evaluated.with_name("50% off%20 who?")
    evaluated.rename(odd)
    monkeypatch.chdir(odd)
    done = subprocess.run([sys.executable, "-c", PUBLISHERS], capture_output=True, text=True, check=True)
    killed, *counts, ended = done.stdout.splitlines()
    assert (killed, ended) == ("9 False", "[0, 0]")
    assert done.stderr == ""
    assert sum(int(line.split()[0]) for line in counts) == 12
    assert address.DATABASE.exists()
    experiment = client().get_experiment_by_name("digits")
    every = client().search_runs([experiment.experiment_id], run_view_type=ViewType.ALL)
    assert len(every) == 12
    assert len({run.data.tags["study.key"] for run in every}) == 12
    artifacts = client().list_artifacts(run_of("plain", 0).info.run_id)
    assert {file.path for file in artifacts} == {"model.keras", "run.json"}


def test_of_two_runs_with_one_key_the_first_stays(published: Path, study: Params) -> None:
    """Left by publishers on two machines with one server, which no lock keeps apart."""
    first = run_of("plain", 0)
    twin = client().create_run(first.info.experiment_id, tags=first.data.tags)
    Publisher(study).publish_variants(["plain"])
    assert twin.info.run_id not in {run.info.run_id for run in runs()}
    assert run_of("plain", 0).info.run_id == first.info.run_id


def test_a_changed_recipe_has_a_parent_of_its_own(unpublished: Path, study: Params) -> None:
    Publisher(study).publish("plain", 0)
    changed = params.parse(STUDY.replace("dropout: 0.25", "dropout: 0.3"), "changed")
    path = paths.run_path("plain", 0) / "run.json"
    facts = json.loads(path.read_text())
    parameters = {**facts["parameters"], "dropout": 0.3}
    path.write_text(json.dumps({**facts, "key": "of the changed recipe", "parameters": parameters}))
    Publisher(changed).publish("plain", 0)
    parents = {run.info.run_id: run.data.params["dropout"] for run in runs() if run.data.tags["role"] == "variant"}
    children = {
        run.data.params["dropout"]: run.data.tags["mlflow.parentRunId"]
        for run in runs()
        if run.data.tags["role"] == "seed"
    }
    assert {dropout: parents[run_id] for dropout, run_id in children.items()} == {"0.25": "0.25", "0.3": "0.3"}


def study_runs() -> list[Any]:
    return [run for run in runs() if run.data.tags["role"] == "study"]


def described(study: Params) -> str:
    """The results of the study as MLflow has them."""
    return results.description(study, *results.compared(study))


def test_the_study_is_a_run_with_its_report_tables_and_figures(read_only: Path) -> None:
    [run] = study_runs()
    for path in [paths.REPORT, paths.TABLES / "comparisons.md", paths.PLOTS / "approaches.png"]:
        name = str(path.relative_to("metrics"))
        assert Path(client().download_artifacts(run.info.run_id, name)).read_bytes() == path.read_bytes()
    assert run.data.metrics == {}  # the means are in the runs of the variants


def note(entity: Any) -> str:
    return str(getattr(entity, "data", entity).tags["mlflow.note.content"])


def test_the_descriptions_of_the_study_and_the_experiment_hold_the_results(read_only: Path, study: Params) -> None:
    found = described(study)
    assert "| plain | watched | " in found
    assert "The 2 intervals hold simultaneously" in found
    best, summary = files.read_json(paths.CHAMPION), files.read_json(paths.SUMMARY)
    assert f"({best['variant']}, seed {best['seed']}), chosen by this rule: {best['rule']}." in found
    assert f"| MLP | watched | {summary['watched']['test_accuracy']['mean']:.4f}, n = 2 | " in found
    experiment = client().get_experiment_by_name("digits")
    assert note(study_runs()[0]).endswith(found)
    assert note(experiment).startswith("The run `study` holds the report")
    assert note(experiment).endswith(found.strip())


def test_a_description_that_a_user_wrote_stays_above_the_results(published: Path, study: Params) -> None:
    experiment = client().get_experiment_by_name("digits")
    former = note(experiment)
    edited = former.replace("The run `study` holds the report", "Ask us before you delete a run")
    client().set_experiment_tag(experiment.experiment_id, "mlflow.note.content", edited.replace("better", "worse"))
    write_accuracy("plain", [0.5, 0.5])
    summary = files.read_json(paths.SUMMARY)
    summary["plain"]["test_accuracy"]["mean"] = 0.5
    files.write_json(paths.SUMMARY, summary)
    Publisher(study).publish_study()
    after = note(client().get_experiment_by_name("digits"))
    assert after.startswith("Ask us before you delete a run")
    assert after.count("# Results\n") == 1
    assert after.endswith(described(study).strip())
    assert after != edited


def test_a_study_that_was_published_without_its_results_gets_them(published: Path, study: Params) -> None:
    [run] = study_runs()
    client().set_tag(run.info.run_id, "mlflow.note.content", "Of an earlier version.")
    assert Publisher(study).publish_study() == 1
    assert note(study_runs()[0]).endswith(described(study))
    assert [one.info.run_id for one in study_runs()] == [run.info.run_id]


def test_each_result_is_a_tag_of_the_run_of_its_variant_until_the_study_names_it_no_more(
    published: Path, study: Params
) -> None:
    tags, mean = parent_of("watched").data.tags, files.read_json(paths.SUMMARY)["watched"]["test_accuracy"]["mean"]
    assert tags["result"] == f"{mean:.4f}, n = 2"
    row = pd.read_csv(paths.TABLES / "comparisons.csv").iloc[0]
    assert tags["vs plain"].startswith(f"{row['verdict']}, ")
    assert tags["vs plain"].endswith(", n = 2, percentage points")
    fewer = study.model_copy(update={"comparisons": [], "chains": {}})
    Publisher(fewer).publish_study()
    assert "vs plain" not in parent_of("watched").data.tags
    assert "result" in parent_of("watched").data.tags


def test_results_too_long_for_a_description_are_summed_up(
    read_only: Path, study: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "DESCRIPTION_LIMIT", 100)
    short = described(study)
    assert "| plain |" not in short
    assert "comparisons have a verdict" in short
    assert "see `report.html`" in short


def test_a_study_whose_scores_are_newer_than_its_report_is_not_published(published: Path, study: Params) -> None:
    """Another data set, say, halfway through its `dvc repro`: the report is still the former one's."""
    write_accuracy("plain", [0.5, 0.5])
    files.write_bytes(paths.REPORT, b"<h1>Of other scores</h1>")
    assert Publisher(study).publish_study() == 0
    assert len(study_runs()) == 1


def test_a_study_that_lacks_seeds_of_params_yaml_is_not_published(published: Path) -> None:
    more = params.parse(STUDY.replace("network\n    seeds: 2", "network\n    seeds: 4"), "more seeds")
    assert Publisher(more).publish_study() == 0


def test_a_study_is_published_once_and_another_result_beside_it(published: Path, study: Params) -> None:
    before = dump()
    assert Publisher(study).publish_study() == 0
    assert dump() == before
    write_accuracy("plain", [0.5, 0.5])
    summary = files.read_json(paths.SUMMARY)
    summary["plain"]["test_accuracy"]["mean"] = 0.5
    files.write_json(paths.SUMMARY, summary)
    assert Publisher(study).publish_study() == 1
    newest, oldest = study_runs()
    assert parent_of("plain").data.tags["result"] == "0.5000, n = 2"
    assert note(newest) != note(oldest)


def test_a_study_whose_publication_broke_off_is_published_anew(published: Path, study: Params) -> None:
    plots = sorted(file.path for file in client().list_artifacts(study_runs()[0].info.run_id, "plots"))
    files.write_bytes(paths.REPORT, b"<h1>Another</h1>")
    with breaking_off(after=3):
        assert Publisher(study).publish_study() == 0
    assert Publisher(study).publish_study() == 1
    newest, _ = study_runs()
    assert newest.info.status == "FINISHED"
    assert sorted(file.path for file in client().list_artifacts(newest.info.run_id, "plots")) == plots


def test_a_parent_says_what_it_stands_for_as_params_say_it_now(published: Path, study: Params) -> None:
    assert parent_of("watched").data.tags["approach"] == "MLP"
    assert "approach" not in parent_of("plain").data.tags
    changed = params.parse(STUDY.replace("MLP: watched", "MLP: plain"), "changed")
    Publisher(changed).publish_variants(list(changed.variants))
    assert parent_of("plain").data.tags["approach"] == "MLP"
    assert "approach" not in parent_of("watched").data.tags


def test_aggregate_does_not_import_mlflow_where_nothing_is_new(
    aggregated: Path, empty_database: Path, study: Params
) -> None:
    shutil.copy(empty_database, address.DATABASE)
    assert Publisher(study).publish_all() == 13  # eight runs, the means of four variants, the report
    code = "import sys; from stages.aggregate.__main__ import main; main(); print('mlflow' in sys.modules)"
    before = dump()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("\nFalse\n")
    assert dump() == before


def test_what_is_known_to_be_published_is_published_again_where_it_is_lost(
    aggregated: Path, empty_database: Path, study: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(empty_database, address.DATABASE)
    assert Publisher(study).publish_all() == 13
    client().delete_run(run_of("plain", 0).info.run_id)
    assert Publisher(study).publish_all() == 1
    [model] = address.ARTIFACTS.glob(f"{run_of('plain', 1).info.run_id}/artifacts/model.keras")
    model.unlink()
    assert Publisher(study).publish_all() == 1
    assert record.is_complete(record.workspace_digest(study))
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "another")
    assert not record.is_complete(record.workspace_digest(study))
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME")
    shutil.copy(empty_database, address.DATABASE)
    assert Publisher(study).publish_all() == 13
    address.DATABASE.unlink()
    assert not record.is_complete(record.workspace_digest(study))


def test_a_run_that_can_not_be_published_is_named_each_time(
    aggregated: Path, empty_database: Path, study: Params, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(empty_database, address.DATABASE)
    (paths.run_path("plain", 1) / "run.json").write_text("{")
    for _ in range(2):
        Publisher(study).publish_all()
        assert "plain seed 1 is not published" in capsys.readouterr().err


def test_publishing_by_hand_ends_with_an_error_where_mlflow_is_down(
    unpublished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setattr("sys.argv", ["stages.tracking"])
    with pytest.raises(SystemExit, match="not everything is published"):
        main()


def write_lock(study: Params, **changes: Any) -> None:
    """What DVC records of a study that it has just reproduced, with some of it changed.

    As params.yaml has it: without the fields that are left at their defaults.
    """
    recorded = {
        "data": study.data.model_dump(exclude_unset=True),
        "images": "0" * 32,
        **{variant: recipe.model_dump(exclude_unset=True) for variant, recipe in study.variants.items()},
    } | changes
    stages: dict[str, Any] = {
        "fetch": {"params": {"params.yaml": {"data": recorded["data"]}}},
        "split": {"outs": [{"path": "data/train.npz", "md5": recorded["images"]}]},
    }
    for variant in study.variants:
        stages[f"train@{variant}"] = {
            "deps": [{"path": "data/train.npz", "md5": "0" * 32}],
            "params": {"params.yaml": {f"variants.{variant}": recorded[variant]}},
        }
    with dvc.LOCK.open("w") as file:
        YAML().dump({"schema": "2.0", "stages": stages}, file)


def test_results_of_former_parameters_are_not_published_as_those_of_the_new_ones(
    unpublished: Path, study: Params, capsys: pytest.CaptureFixture[str]
) -> None:
    write_lock(study)
    assert outdated(study) == []
    write_lock(study, plain={**study.recipe("plain").model_dump(), "units": [9]})
    publisher = Publisher(study)
    publisher.publish_variants(["ridge", "plain"])
    assert {run.data.tags["variant"] for run in runs()} == {"ridge"}
    assert (
        "warning: not published: plain, and the report. dvc.lock has them with other parameters"
        in capsys.readouterr().err
    )
    assert not publisher.failed


def test_a_model_of_a_former_recipe_is_not_published_with_the_scores_of_the_new_one(
    unpublished: Path, study: Params
) -> None:
    path = paths.run_path("plain", 1) / "run.json"
    facts = files.read_json(path)
    files.write_json(path, {**facts, "key": "former", "parameters": {**facts["parameters"], "units": [9]}})
    Publisher(study).publish_variants(["plain"])
    scores = read_results("plain").scores.set_index("seed")
    run = run_of("plain", 1)
    assert run.data.metrics["test_accuracy"] == scores.loc[1, "test_accuracy"]
    artifacts = [client().list_artifacts(run_of("plain", seed).info.run_id) for seed in (0, 1)]
    assert [len(files) for files in artifacts] == [2, 0]


def test_results_of_fewer_seeds_or_with_a_later_field_at_its_default_are_the_studys_own(
    unpublished: Path, study: Params
) -> None:
    fields = study.recipe("plain").model_dump(exclude_unset=True)
    write_lock(study, plain={**fields, "seeds": 1, "padding": "valid"})
    assert outdated(study) == []


@pytest.mark.parametrize(
    "recorded", [None, {}, {"family": "perceptron"}, {"family": "network", "seeds": 2}, {"family": "ridge", "alpha": 1}]
)
def test_results_of_a_recipe_that_there_can_no_longer_be_are_out_of_date(
    recorded: Any, unpublished: Path, study: Params
) -> None:
    write_lock(study, plain=recorded)
    assert outdated(study) == ["plain"]


@pytest.mark.parametrize("changes", [{"data": {"name": "mnist"}}, {"images": "1" * 32}])
def test_results_on_another_data_set_are_not_published_as_those_of_the_new_one(
    unpublished: Path, study: Params, changes: dict[str, Any]
) -> None:
    write_lock(study, **changes)
    Publisher(study).publish_variants(list(study.variants))
    assert runs() == []


def test_a_recipe_that_params_yaml_no_longer_has_stands_for_no_approach(unpublished: Path, study: Params) -> None:
    former = params.parse(STUDY.replace("patience: 2", "patience: 1"), "former")
    Publisher(former).publish_variants(["watched"])
    Publisher(study).publish_variants(["watched"])
    parents = [run for run in runs() if run.data.tags["role"] == "variant"]
    assert {run.data.params["patience"]: run.data.tags.get("approach") for run in parents} == {"1": None, "2": "MLP"}
