"""Verdicts on runs in MLflow, logged in common ways."""

import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import Metric, Param

from stages.aggregate.runs import read_runs
from stages.study import params
from stages.study.comparisons import compare_variants, named_pairs
from stages.tracking.publisher import Publisher
from tests.conftest import STUDY
from tests.support import study as made
from tests.support.command import parsed, verdict
from tests.support.mlflow import mlflow_server

FIXED = ["--design", "fixed"]


@pytest.fixture
def client(empty_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The client of a new database, to which MLFLOW_TRACKING_URI is set."""
    import mlflow

    shutil.copy(empty_database, tmp_path / "mlflow.db")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    return mlflow.MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/mlflow.db")


def log(
    client: Any,
    parameters: Mapping[str, Any],
    metrics: Mapping[str, float],
    status: str = "FINISHED",
    parent: str | None = None,
    name: str = "trees",
    steps: int = 1,
    **tags: str,
) -> str:
    """Log a run in the experiment `name`, with the same value of each metric at each step."""
    found = client.get_experiment_by_name(name)
    experiment = found.experiment_id if found else client.create_experiment(name)
    run = client.create_run(experiment, tags=tags | ({"mlflow.parentRunId": parent} if parent else {}))
    client.log_batch(
        run.info.run_id,
        params=[Param(name, str(value)) for name, value in parameters.items()],
        metrics=[Metric(metric, value, 0, step) for metric, value in metrics.items() for step in range(steps)],
    )
    client.update_run(run.info.run_id, status=status)
    return str(run.info.run_id)


def output_of(*arguments: str) -> tuple[str, str, int]:
    output = verdict("--mlflow", *arguments)
    return output.out, output.err, output.status


def found(*arguments: str) -> dict[str, Any]:
    return parsed(verdict("--mlflow", *arguments, "--json"))


def test_runs_are_grouped_by_the_parameters_that_differ_but_for_the_seed(client: Any) -> None:
    for trees in (10, 50):
        for depth in (3, 5):
            for seed in (0, 1):
                score = 0.9 + trees / 1000 + depth / 100 + seed * depth / 1000
                log(client, {"trees": trees, "depth": depth, "loss": "gini", "seed": seed}, {"accuracy": score})
    output = found("trees", *FIXED, "--baseline", "depth=3 trees=10", "--resolution", "0.001")
    assert output["metric"] == "accuracy"
    assert {result["b"]: result["difference"] for result in output["results"]} == {
        "depth=5 trees=10": pytest.approx(0.021),
        "depth=3 trees=50": pytest.approx(0.04),
        "depth=5 trees=50": pytest.approx(0.061),
    }
    # Chosen by MLflow's own conditions, one parameter is left that differs.
    output = found("trees", *FIXED, "--where", "params.depth = '3'", "--pairs", "50:10", "--resolution", "0.001")
    assert output["results"][0]["difference"] == pytest.approx(-0.04)
    assert "variant depth=3" not in output_of("trees", *FIXED)[0]


def test_what_is_left_out_is_counted(client: Any) -> None:
    for trees in (10, 50):
        for seed in (0, 1):
            log(client, {"trees": trees, "seed": seed}, {"f1": trees + seed * trees})
    log(client, {"trees": 10, "seed": 2}, {"f1": 1.0}, status="FAILED")
    log(client, {"trees": 10, "seed": 3}, {"f1": 1.0}, status="RUNNING")
    log(client, {"trees": 10, "seed": 4}, {"f1": 1.0}, status="RUNNING")
    log(client, {"trees": 10, "seed": 5}, {"other": 1.0})
    log(client, {"trees": 10}, {"f1": 1.0})
    output = found("trees", *FIXED, "--metric", "f1")
    assert output["results"][0]["n_a"] == 2
    assert output["remarks"] == [
        "left out: 1 run with the status FAILED",
        "left out: 2 runs with the status RUNNING",
        "left out: 1 run without the metric f1",
        "left out: 1 run without a parameter or tag seed",
    ]


def test_each_of_several_experiments_is_a_variant(client: Any) -> None:
    for name, score in (("large", 3.0), ("small", 1.0)):
        for seed in (0, 1):
            log(client, {"seed": seed, "lr": score}, {"f1": score + seed * score}, name=name)
    output = verdict("--mlflow", "small", "--mlflow", "large", *FIXED, "--json")
    (result,) = parsed(output)["results"]
    assert (result["a"], result["b"], result["difference"]) == ("small", "large", 3)
    by = verdict("--mlflow", "small", "--mlflow", "large", "--by", "experiment,lr", *FIXED, "--json")
    assert parsed(by)["results"][0]["b"] == "experiment=large lr=3.0"
    refused = verdict("--mlflow", "small", "--mlflow", "huge")
    assert "has no experiment 'huge'. Experiments: " in refused.err


def test_runs_that_ended_at_an_earlier_step_are_named(client: Any) -> None:
    for trees in (10, 50):
        for seed in (0, 1):
            log(
                client,
                {"trees": trees, "seed": seed},
                {"f1": trees + seed},
                steps=3 if (trees, seed) == (10, 1) else 10,
            )
    remarks = " ".join(found("trees", *FIXED, "--resolution", "1")["remarks"])
    assert "finished, but at an earlier step than 9: 1 run (10 seed 1 at 2). If these runs were interrupted" in remarks
    assert "f1 has up to 10 values in a run" in remarks
    assert "the last one counts, as with --at last. If they are those of folds, average them with --over" in remarks


def test_the_value_of_a_run_is_its_last_or_its_best_or_the_mean(client: Any) -> None:
    values = {
        ("10", 0): [1.0, 5.0, 0.0],
        ("10", 1): [2.0, 3.0, 1.0],
        ("50", 0): [4.0, 8.0, 6.0],
        ("50", 1): [9.0, 7.0, 5.0],
    }
    for (trees, seed), of in values.items():
        run = log(client, {"trees": trees, "seed": seed}, {})
        for place, value in enumerate(of):
            client.log_metric(run, "f1", value, step=place if trees == "10" else 0)
    found_at = {
        option: found("trees", *FIXED, "--by", "trees", *option.split())
        for option in ("--at last", "--at best", "--over step")
    }
    assert [output["results"][0]["difference"] for output in found_at.values()] == [5.0, 4.5, pytest.approx(4.5)]
    assert found_at["--at last"]["remarks"][1:] == []
    assert "selected by the score that is compared" in found_at["--at best"]["remarks"][1]
    assert "averaged over step: 3 rows for each run" in found_at["--over step"]["remarks"]
    lowest = found("trees", *FIXED, "--at", "best", "--lower-is-better")["results"][0]
    assert lowest["difference"] == 4.0
    assert "expected one of them" in output_of("trees", "--at", "last", "--over", "step")[1]


def test_scores_of_nested_runs_of_folds_are_averaged(client: Any) -> None:
    for trees in (10, 50):
        for seed in (0, 1):
            parent = log(client, {"trees": trees, "seed": seed}, {})
            for fold in (0, 1):
                log(client, {"fold": fold}, {"f1": trees + seed * trees + fold}, parent=parent)
    output = found("trees", *FIXED, "--over", "fold")
    assert [(one["a"], one["b"], one["n"], one["difference"]) for one in output["results"]] == [("10", "50", 2, 60)]
    assert "averaged over fold: 2 rows for each run" in output["remarks"]
    log(client, {"fold": 2}, {"f1": 0}, parent=parent)
    assert "--over fold expects the same folds in every run" in output_of("trees", "--over", "fold")[1]
    assert "has a parameter or tag split" in output_of("trees", "--over", "split")[1]


def test_a_condition_on_the_metric_is_named(client: Any) -> None:
    for trees in (10, 50):
        for seed in (0, 1, 2):
            log(
                client,
                {"trees": trees, "seed": seed},
                {"f1": float("nan") if trees + seed == 50 else trees + seed * trees},
            )
    remarks = " ".join(found("trees", *FIXED, "--where", "metrics.f1 > 0")["remarks"])
    assert "--where chooses runs by f1, the score that is compared, and leaves out those where it is NaN" in remarks
    assert "(5 of 6 runs met it)" in remarks


def test_parameters_that_are_equal_as_numbers_are_one(client: Any) -> None:
    for seed, rate in enumerate(("0.1", "0.10", "1e-1")):
        log(client, {"lr": rate, "seed": seed, "name": "a"}, {"f1": seed})
        log(client, {"lr": "0.5", "seed": seed, "name": "a"}, {"f1": 2 * seed})
    output = found("trees", *FIXED)
    assert [(result["a"], result["b"], result["n"]) for result in output["results"]] == [("0.1", "0.5", 3)]
    assert output["remarks"] == ["lr: equal numbers are one value: 0.1, 0.10, 1e-1"]


def test_deleted_runs_are_counted(client: Any) -> None:
    for trees in (10, 50):
        for seed in (0, 1, 2):
            identity = log(client, {"trees": trees, "seed": seed}, {"f1": trees + seed * trees})
    client.delete_run(identity)
    remarks = found("trees", *FIXED)["remarks"]
    assert "left out: 1 deleted run. If a run was deleted because of its score, the verdicts do not hold" in remarks


def test_nested_runs_inherit_the_parameters_of_their_parent(client: Any) -> None:
    for trees in (10, 50):
        parent = log(client, {"trees": trees, "seed": 99}, {"f1": 0.0})
        for seed in (0, 1):
            log(client, {"seed": seed}, {"f1": trees + seed * trees}, parent=parent)
    output = found("trees", *FIXED)
    assert [(result["a"], result["b"], result["difference"]) for result in output["results"]] == [("10", "50", 60)]
    assert output["remarks"] == ["left out: 2 runs with nested runs"]


def test_a_run_whose_nested_runs_failed_is_compared(client: Any) -> None:
    for trees in (10, 50):
        for seed in (0, 1):
            above = log(client, {"trees": trees, "seed": seed}, {"f1": trees + seed * trees})
            log(client, {}, {}, status="FAILED", parent=above)
    output = found("trees", *FIXED)
    assert output["results"][0]["n_a"] == 2
    assert output["remarks"] == ["left out: 4 runs with the status FAILED"]


def test_an_infinite_metric_is_reported_as_infinite(client: Any) -> None:
    log(client, {"trees": 10, "seed": 0}, {"loss": float("inf")})
    log(client, {"trees": 50, "seed": 0}, {"loss": 2.5})
    assert "received inf (1 such score): remove it if the run was not made" in output_of("trees")[1]


def test_a_deleted_experiment_is_reported_as_deleted(client: Any) -> None:
    log(client, {"trees": 10, "seed": 0}, {"f1": 1})
    identity = client.get_experiment_by_name("trees").experiment_id
    client.delete_experiment(identity)
    _, err, status = output_of("trees")
    assert status == 2
    assert f"'trees' is deleted: `mlflow experiments restore --experiment-id {identity}` restores it" in err


def test_runs_chosen_by_a_condition_inherit_the_parameters_of_their_parent(client: Any) -> None:
    for trees in (10, 50):
        parent = log(client, {"trees": trees}, {"f1": 0.0}, stage="search")
        for seed in (0, 1, 2):
            log(client, {"seed": seed}, {"f1": trees + seed * trees}, parent=parent, stage="final" if seed else "early")
    output = found("trees", *FIXED, "--where", "tags.stage = 'final'")
    assert [(result["a"], result["b"], result["n_a"]) for result in output["results"]] == [("10", "50", 2)]
    assert output["remarks"] == []
    _, err, status = output_of("trees", "--where", "tags.stage = 'search'")
    assert status == 2
    assert "has no finished runs that meet tags.stage = 'search' and have no nested runs" in err
    assert "left out: 2 runs with nested runs" in err


def test_variants_and_seeds_may_be_tags(client: Any) -> None:
    for name in ("old", "new"):
        for seed in range(2):
            log(
                client,
                {"job": f"{name}{seed}"},
                {"f1": seed * len(name) + (name == "new") * seed},
                model=name,
                rng=str(seed),
            )
    result = found("trees", *FIXED, "--by", "model", "--seed", "rng", "--resolution", "1")["results"][0]
    assert (result["a"], result["b"], result["n_a"]) == ("old", "new", 2)


@pytest.fixture(scope="module")
def unclear(empty_database: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a database in which it is unclear what to compare; tests must not change it."""
    import mlflow

    address = f"sqlite:///{shutil.copy(empty_database, tmp_path_factory.mktemp('unclear'))}"
    client = mlflow.MlflowClient(tracking_uri=address)
    for trees in (10, 50):
        for seed in (0, 1):
            parameters = {"trees": trees, "seed": seed, "id": f"{trees}-{seed}"}
            log(client, parameters, {"f1": trees + seed * trees, "loss": float("nan")}, model="m")
    return address


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["tree"], "has no experiment 'tree'. Experiments: "),
        (["trees"], "name the metric with --metric: the runs have f1, loss"),
        (["trees", "--metric", "f2"], "has the metric f2. Parameters: id, seed, trees; tags: model; metrics: f1, loss"),
        (["trees", "--metric", "f1", "--seed", "rng"], "has a parameter or tag rng. Parameters: id, seed, trees"),
        (["trees", "--metric", "f1"], "each of the 4 runs would be a separate variant, by id, trees"),
        (["trees", "--metric", "f1", "--by", "tree"], "no run has a parameter or tag 'tree' (--by)"),
        (["trees", "--metric", "f1", "--by", "model"], "variant m has seed 0 twice"),
        (["trees", "--metric", "loss", "--by", "trees"], "should have a finite number as loss"),
        (["trees", "--metric", "f1", "--by", "trees", "--where", "trees = 10"], "did not return the runs of 'trees'"),
        (
            ["trees", "--metric", "f1", "--where", "params.trees = '7'"],
            "have no nested runs: a condition applies to each run",
        ),
        (["trees", "--wide"], "--wide is for files"),
    ],
)
def test_what_is_missing_or_unclear_is_named(
    arguments: list[str], expected: str, unclear: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", unclear)
    out, err, status = output_of(*arguments)
    assert (out, status) == ("", 2)
    assert expected in err


def test_a_seed_that_was_run_twice_is_named_with_both_runs(client: Any) -> None:
    ids = [log(client, {"trees": trees, "seed": 0}, {"f1": trees}) for trees in (10, 50, 10)]
    _, err, status = output_of("trees")
    assert status == 2
    assert f"variant 10 has seed 0 twice, in run {ids[0]} and run {ids[2]}" in err


def test_a_database_that_is_not_there_is_not_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    _, err, status = output_of("trees")
    assert status == 2
    assert "there is no MLflow database mlflow.db: set MLFLOW_TRACKING_URI" in err
    assert not list(tmp_path.iterdir())


def test_an_empty_file_is_no_database_and_stays_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mlflow.db").touch()
    assert "there is no MLflow database mlflow.db" in output_of("trees")[1]
    assert Path("mlflow.db").stat().st_size == 0


def test_a_server_that_is_down_is_reported_without_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    _, err, status = output_of("trees")
    assert status == 2
    assert err.startswith("error: MLflow at http://127.0.0.1:9 did not return the runs of 'trees'")


@pytest.mark.parametrize("address", ["foo://", "mssql://user", "http://[bad"])
def test_an_invalid_address_is_reported_on_one_line(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    out, err, status = output_of("trees")
    assert (out, status) == ("", 2)
    assert err.startswith(f"error: MLflow at {address} did not return the runs of 'trees': ")
    assert err.count("\n") == 1


def test_without_mlflow_the_error_names_the_package_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    _, err, status = output_of("trees")
    assert status == 2
    assert "--mlflow needs the package mlflow" in err
    assert "pip install mlflow" in err


def test_a_server_is_asked_page_by_page(client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from many_seeds.sources import mlflow_runs

    for trees in (10, 50):
        for seed in range(3):
            log(client, {"trees": trees, "seed": seed}, {"f1": trees + seed * trees})
    monkeypatch.setattr(mlflow_runs, "PAGE", 4)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "5")  # the server reports that it is up too early
    with mlflow_server(os.environ["MLFLOW_TRACKING_URI"], tmp_path / "artifacts") as address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        assert found("trees", *FIXED)["results"][0]["n_a"] == 3


def test_runs_that_this_study_published_get_the_verdicts_of_its_tables(
    evaluated: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = evaluated / "mlflow.db"
    shutil.copy(empty_database, database)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{database}")
    study = params.parse(STUDY.replace("design: open", "design: fixed"), "the tests' study")
    publisher = Publisher(study)
    publisher.publish_variants(list(study.variants))
    assert not publisher.failed
    runs = read_runs(study)
    pairs = named_pairs(study)
    rows = [replace(row, level=0.05 / len(pairs)) for row in made.ledger_of(study)]  # as without a ledger
    expected = compare_variants(runs, pairs, study, rows)
    images = next(iter(runs.values())).correct.shape[1]
    margin = study.statistics.equivalence_margin / 100
    output = found(
        "digits",
        "--by",
        "variant",
        "--metric",
        "test_accuracy",
        "--design",
        "fixed",
        "--margin",
        str(margin),
        "--resolution",
        str(1 / images),
        *(part for a, b in pairs for part in ("--pairs", f"{a}:{b}")),
    )
    for result, one in zip(output["results"], expected, strict=True):
        assert (result["a"], result["b"], result["n"]) == (one.a, one.b, one.n)
        assert result["verdict"] == one.verdict
        assert (100 * result["low"], 100 * result["high"]) == pytest.approx((one.low, one.high), abs=1e-5)


def test_runs_that_are_parents_of_each_other_are_read(client: Any) -> None:
    above = [log(client, {"depth": depth}, {}) for depth in (1, 2)]
    for run, parent in zip(above, above[::-1], strict=True):
        client.set_tag(run, "mlflow.parentRunId", parent)
    for trees in (10, 50):
        for seed in (0, 1):
            log(client, {"trees": trees, "seed": seed}, {"f1": trees + seed * trees}, parent=above[0])
    assert found("trees", *FIXED)["results"][0]["n_a"] == 2


def test_a_password_in_the_address_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:secret@127.0.0.1:9")
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.setenv(name, "")  # restored after the test
    out, err, status = output_of("trees")
    assert (out, status) == ("", 2)
    assert "MLflow at http://127.0.0.1:9 did not return" in err
    assert "secret" not in err
