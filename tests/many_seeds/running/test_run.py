"""`many-seeds run`: the loop around a command, its failures, kills at any moment, several processes on one store."""

import contextlib
import csv
import fcntl
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from functools import partial
from pathlib import Path

import pytest

from many_seeds.errors import UserError
from many_seeds.ledger import parse
from many_seeds.running import cluster as cluster_module
from many_seeds.running import processes
from many_seeds.running.cluster import cluster_workers, execute
from many_seeds.running.commands import Command, expanded, logged_scores, parse_command, read_score
from many_seeds.running.functions import THREADS
from many_seeds.running.runs import Run, ScoreError
from tests import ROOT
from tests.support.command import assert_refused, many_seeds

# Appends each run to a file, waits until `gate` is unlocked, never ends for seeds from `blocked` on, prints a score.
SCRIPT = """\
echo "$1 $2" >> log
test -e gate && flock --shared gate true
test -e blocked && test $2 -ge "$(cat blocked)" && sleep 1000
echo '{"accuracy": '$(( ($2 * 37 + $1) % 11 + $1 ))'}'
"""
# Ends after its child, and both can write to the pipe.
LONG = "exec > alive; echo started; sh -c 'sleep 100; echo survived'; echo survived"
STUDY = """\
command: [sh, script.sh, "{shift}", "{seed}"]
score: accuracy
variants: {base: {shift: 1}, same: {shift: 2}, better: {shift: 90}}
comparisons: ["base:better", "base:same"]
margin: 6
workers: 2
"""
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT)}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("script.sh").write_text(SCRIPT)
    Path("runs.yaml").write_text(STUDY)
    return tmp_path


def start() -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "many_seeds.commands.cli", "run", "runs.yaml"],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a background job has it ignored
    )


def rows() -> list[dict[str, str]]:
    with Path("scores.csv").open() as file:
        return list(csv.DictReader(file))


def wait_for(process: "subprocess.Popen[str]", text: str, count: int = 1) -> None:
    """Wait until a process has printed some lines with a text to standard error."""
    assert process.stderr is not None
    for _ in range(count):
        while text not in (line := process.stderr.readline()):
            assert line, "the process has ended"


def processes_with(text: str) -> list[str]:
    """The processes whose command lines contain a text."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if text.encode() in path.read_bytes():
                found.append(path.parent.name)
    return found


def test_comparisons_get_verdicts_and_the_same_command_runs_nothing_again() -> None:
    plan = many_seeds("run", "runs.yaml", "--plan")
    assert plan.out.splitlines()[:2] == ["base → better: 0 → 10 seeds, 20 runs", "  sh script.sh 1 0"]
    assert plan.out.count("sh script.sh 1 0") == 1
    assert not Path("scores.csv").exists()
    assert not Path("scores.comparisons.csv").exists()
    done = many_seeds("run", "runs.yaml")
    assert done.status == 0
    assert "base  better  better" in done.out
    assert "better 9: accuracy 9" in done.err
    runs = Path("log").read_text().splitlines()
    again = many_seeds("run", "runs.yaml")
    assert (again.out, Path("log").read_text().splitlines()) == (done.out, runs)
    assert many_seeds("run", "runs.yaml", "--plan").out.endswith(
        "Nothing would run: no result is open with fewer than 256 seeds.\n"
    )


def test_a_command_that_fails_hangs_or_prints_no_score_is_a_failed_run(folder: Path) -> None:
    Path("script.sh").write_text(
        "echo $1 $2 >> log\n"
        "if test $1 = 90; then case $2 in\n"
        "0) echo trouble >&2; exit 3 ;;\n"
        f"1) sleep 1000 & echo {folder}; sleep 1000 ;;\n"
        "2) echo almost done ;;\n"
        "3) echo nan ;;\n"
        "esac; fi\n" + SCRIPT.replace('"accuracy"', '"text": "x", "accuracy"')
    )
    Path("runs.yaml").write_text(STUDY.replace("base:better", "same:better") + "timeout: 1\nmost: 4\n")
    Path("script.sh").write_text(
        Path("script.sh").read_text().replace("esac; fi\n", "esac; test $2 -lt 4 && exit; fi\n")
    )
    failed = many_seeds("run", "runs.yaml")
    assert failed.status == 1
    reasons = {row["seed"]: row["status"] for row in rows() if row["variant"] == "better"}
    assert reasons == {
        "0": "failed: exit status 3: sh script.sh 90 0",
        "1": "failed: it took longer than the time limit of 1 s",
        "2": "failed: no score: expected JSON or a number in the last line of its output, received 'almost done'",
        "3": "failed: accuracy should be finite, received nan: a run that diverged counts, so return the score of a "
        "model that has learned nothing",
    }
    assert {row["status"] for row in rows() if row["variant"] != "better"} == {"ok"}
    counts = Counter(Path("log").read_text().splitlines())
    assert [counts[f"90 {seed}"] for seed in range(4)] == [2, 2, 1, 1]
    assert (
        "better 0: failed: exit status 3: sh script.sh 90 0; second attempt with the same seed\n  | trouble"
        in failed.err
    )
    assert "base → same is open: it has the maximum of 4 seeds" in failed.err
    assert "4 failed runs, without a score" in failed.out
    assert not processes_with(str(folder))


def test_a_variant_whose_runs_all_fail_stops_after_a_few() -> None:
    Path("script.sh").write_text('echo "$1 $2" >> log; test $1 = 90 && exit 1; echo $(( $2 * $1 ))')
    failed = many_seeds("run", "runs.yaml")
    assert "better: no more runs of it start, since 5 have failed" in failed.err
    assert sum(line.startswith("90 ") for line in Path("log").read_text().splitlines()) <= 12  # with second attempts


def test_the_plan_of_the_fixed_design_shows_no_interval_before_all_its_seeds_exist() -> None:
    Path("runs.yaml").write_text(STUDY.replace(', "base:same"', "") + "design: fixed\nmost: 4\n")
    Path("script.sh").write_text("test $2 = 3 && exit 1\n" + SCRIPT)
    assert many_seeds("run", "runs.yaml").status == 1
    lines = many_seeds("run", "runs.yaml", "--plan").out.splitlines()
    assert ["base", "better", "undecided", "–", "any", "3", "–"] in [line.split() for line in lines]
    assert "base → better: 3 → 4 seeds, 2 runs; about 0 s until 4 seeds" in lines


def test_a_command_that_has_made_no_score_may_be_corrected() -> None:
    Path("runs.yaml").write_text(STUDY.replace("[sh, ", "[no-such-program, "))
    assert "there is no program no-such-program, or it is not executable" in many_seeds("run", "runs.yaml").err
    Path("runs.yaml").write_text(STUDY)
    assert many_seeds("run", "runs.yaml").status == 0
    ledger = parse(Path("scores.comparisons.csv").read_text(), "ledger")
    assert [(row.batch, row.withdrawn) for row in ledger] == [(1, ""), (1, "")]
    Path("runs.yaml").write_text(STUDY.replace("[sh, ", "[dash, "))
    assert_refused(many_seeds("run", "runs.yaml"), 'scores.csv has runs of another variant base: {"shift": 1} with sh')


def test_a_study_that_is_killed_at_any_moment_goes_on_from_there() -> None:
    for blocked, count in ((0, 0), (1, 2), (6, 10)):
        Path("blocked").write_text(str(blocked))
        killed = start()
        wait_for(killed, "base → better: ")
        wait_for(killed, ": accuracy ", count)
        killed.kill()
        killed.communicate()
    assert len(rows()) == 12
    with Path("scores.csv").open("a") as file:
        file.write("better,9,1")  # of a process that was killed while it wrote
    Path("blocked").unlink()
    done = many_seeds("run", "runs.yaml")
    assert done.status == 0
    found = {(row["variant"], int(row["seed"])): float(row["accuracy"]) for row in rows()}
    assert len(found) == len(rows())
    shifts = {"base": 1, "same": 2, "better": 90}
    assert found == {run: (run[1] * 37 + shifts[run[0]]) % 11 + shifts[run[0]] for run in found}
    seeds = {name: sorted(seed for one, seed in found if one == name) for name in shifts}
    assert all(of == list(range(len(of))) for of in seeds.values())
    assert "base  better  better" in done.out


def test_two_processes_on_one_store_share_the_runs() -> None:
    with Path("gate").open("w") as gate:
        fcntl.flock(gate, fcntl.LOCK_EX)
        both = [start(), start()]
        for process in both:
            wait_for(process, "base → better: 0 → 10 seeds, 20 runs")
    outputs = [process.communicate(timeout=60) for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert all("base  better  better" in out and ": accuracy " in err for out, err in outputs)
    assert set(Counter(Path("log").read_text().splitlines()).values()) == {1}
    assert len(rows()) == len(Path("log").read_text().splitlines())


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_signal_leaves_no_process_behind(signum: int) -> None:
    os.mkfifo("alive")
    Path("script.sh").write_text(LONG)
    process = start()
    with Path("alive").open() as alive:
        assert alive.readline() == "started\n"
        process.send_signal(signum)
        assert "survived" not in alive.read()  # which ends with the last process that can write
    _, errors = process.communicate(timeout=30)
    if signum != signal.SIGKILL:
        assert process.returncode == 130
        assert "Traceback" not in errors
    assert not Path("scores.csv").exists()


def test_a_signal_while_a_run_starts_ends_this_run_too(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("script.sh").write_text("sleep 3; echo survived > survived; echo 1")
    start_run = processes.CommandWorker.start

    def interrupted(worker: processes.CommandWorker, run: Run) -> object:
        start_run(worker, run)
        raise KeyboardInterrupt

    monkeypatch.setattr(processes.CommandWorker, "start", interrupted)
    assert many_seeds("run", "runs.yaml").status == 130
    assert not Path("survived").exists()


LOGS = """\
import sys, mlflow
mlflow.set_experiment("shifts")
with mlflow.start_run():
    mlflow.log_metric("accuracy", float(sys.argv[1]) + float(sys.argv[2]))
"""


@pytest.mark.pipeline
def test_the_score_is_a_metric_of_the_mlflow_run_that_the_command_makes(
    empty_database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{shutil.copy(empty_database, 'mlflow.db')}")
    monkeypatch.setenv("MLFLOW_RUN_CONTEXT", '{"team": "a"}')
    Path("log.py").write_text(LOGS)
    Path("runs.yaml").write_text(
        STUDY.replace("sh, script.sh", "python, log.py").replace(', "base:same"', "") + "mlflow: true\nmost: 1\n"
    )
    assert many_seeds("run", "runs.yaml").status == 0
    assert {row["variant"]: row["accuracy"] for row in rows()} == {"base": "1.0", "better": "90.0"}
    client = mlflow.MlflowClient()
    [experiment] = client.search_experiments(filter_string="name = 'shifts'")
    assert {run.data.tags["team"] for run in client.search_runs([experiment.experiment_id])} == {"a"}


@pytest.mark.pipeline
def test_an_mlflow_run_without_the_score_or_several_with_it_are_no_score(
    empty_database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{shutil.copy(empty_database, 'mlflow.db')}")
    client = mlflow.MlflowClient()

    def log(parent: str | None = None, **metrics: float) -> str:
        tags = {"many_seeds.run": "x"} | ({"mlflow.parentRunId": parent} if parent else {})
        run = client.create_run("0", tags=tags).info.run_id
        for name, value in metrics.items():
            client.log_metric(run, name, value)
        return str(run)

    with pytest.raises(ScoreError, match="found 0 of 0 runs, where MLFLOW_TRACKING_URI should be that of the command"):
        logged_scores("x", "accuracy")
    outer = log(loss=1.0)
    with pytest.raises(ScoreError, match="run of the command with the metric accuracy, found 0 of 1 run with loss"):
        logged_scores("x", "accuracy")
    nested = log(outer, accuracy=0.5, **{"system/cpu": 1.0})
    log(nested, accuracy=0.1)
    assert logged_scores("x", "accuracy") == {"accuracy": 0.5}
    log(outer, accuracy=0.6)
    with pytest.raises(ScoreError, match="found 2 of 4 runs"):
        logged_scores("x", "accuracy")


@pytest.mark.pipeline
def test_a_command_runs_on_a_dask_cluster_and_ends_if_it_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    from distributed import LocalCluster

    with LocalCluster(n_workers=1, threads_per_worker=12, processes=False, dashboard_address="") as cluster:
        monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", cluster.scheduler_address)
        Path("runs.yaml").write_text(STUDY.replace("workers: 2", ""))
        assert "base → better: 0 → 12 seeds" in many_seeds("run", "runs.yaml", "--plan").out  # one for each thread
        Path("runs.yaml").write_text(STUDY + "most: 3\n")
        assert many_seeds("run", "runs.yaml").status == 0
        assert len(rows()) == 9
        Path("runs.yaml").write_text(STUDY + "most: 4\ngpus: [0]\n")
        assert_refused(many_seeds("run", "runs.yaml"), "timeout and gpus are for this machine")
        monkeypatch.setattr(cluster_module, "LOOK_SECONDS", 0.01)
        os.mkfifo("alive")
        command = Command(["sh", "-c", LONG, "{seed}"], {"a": {}}, "score")
        with cluster_workers(partial(execute, command), 1) as [worker]:
            worker.start(Run("a", 0))
            with Path("alive").open() as alive:
                assert alive.readline() == "started\n"
                worker.kill()
                assert "survived" not in alive.read()


def test_each_command_sees_the_gpu_of_its_worker() -> None:
    command = '[sh, -c, "echo $CUDA_VISIBLE_DEVICES > {out}", '
    Path("runs.yaml").write_text(STUDY.replace("[sh, script.sh, ", command) + "gpus: [3, 4]\nmost: 3\n")
    many_seeds("run", "runs.yaml")
    assert {row["accuracy"] for row in rows()} == {"3.0", "4.0"}


def test_commands_share_the_cores_unless_the_environment_says_how_many_threads_they_use(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("joblib.cpu_count", lambda: 6)
    for name in THREADS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MKL_NUM_THREADS", "5")
    command = '[sh, -c, "echo {seed}$OMP_NUM_THREADS$MKL_NUM_THREADS", '
    Path("runs.yaml").write_text(STUDY.replace("[sh, script.sh, ", command) + "most: 1\n")
    assert many_seeds("run", "runs.yaml").status == 0
    assert {row["accuracy"] for row in rows()} == {"35.0"}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("scores: a\n" + STUDY, "has unknown keys: scores; known: command, score, variants, comparisons"),
        ("command: x {seed}\n", "lacks score, variants: score: the name of the score; variants: name → the values"),
        ("[1]", "should map keys to values, received list"),
        ("a: [", "should be YAML in UTF-8"),
        (STUDY + "{margin}: 5\n", "should be YAML in UTF-8"),
        (STUDY + "margin: 5\n", "the key margin stands twice"),
        (STUDY.replace("base: {", "base: {shift: 2, "), "the key shift stands twice"),
        (STUDY.replace('"{seed}"', "0"), "command should have {seed}, so that runs differ, received sh script.sh"),
        (STUDY.replace("{shift}", "{lr}"), "command has {lr}, which variant base lacks: it has shift"),
        (STUDY.replace("base: {shift: 1", "base: {lr: 3, shift: 1"), "variant base has lr, but command has no {lr}"),
        (
            STUDY.replace("base:better", "base:worse"),
            "comparisons should be A:B with two variants, received 'base:worse'",
        ),
        (STUDY.replace("score: accuracy", "score: loss"), "is a lower loss better?"),
        (STUDY + "race: true\n", "expected no pairs and no baseline with race"),
        (STUDY + "lower_is_better: 1\n", "lower_is_better should be true or false, received 1"),
        (STUDY + "store: 3\n", "store should be a text, the CSV file, received 3"),
        (STUDY + "most: many\n", "most should be a whole number of 1 or more, received 'many'"),
        (STUDY.replace("margin: 6", "margin: six"), "margin should be a number of 0 or more"),
    ],
)
def test_an_error_in_the_file_is_one_line_before_anything_runs(content: str, expected: str) -> None:
    Path("runs.yaml").write_text(content)
    assert_refused(many_seeds("run", "runs.yaml"), expected)
    assert not Path("log").exists()


def test_a_command_is_split_as_a_shell_would_and_values_are_written_as_in_json() -> None:
    fields = {"lr": 0.001, "deep": True, "name": "a b", "units": [1, 2]}
    command = parse_command("train --lr {lr} '{name}' --deep={deep} {units} {seed} --json '{\"x\": 1}'", {"v": fields})
    started = ["train", "--lr", "0.001", "a b", "--deep=true", "[1, 2]", "7", "--json", '{"x": 1}']
    assert expanded(command, fields, 7, "") == started
    with pytest.raises(UserError, match="can't have the field out"):
        parse_command("train {seed}", {"v": {"out": 1}})
    with pytest.raises(UserError, match="No closing quotation"):
        parse_command("train '{seed}", {})
    with pytest.raises(UserError, match="should be a list of a program and its arguments, or a string, received 3"):
        parse_command(3, {})


def test_a_score_is_a_number_or_in_json_on_the_last_line_or_in_a_file(tmp_path: Path) -> None:
    assert read_score("epoch 1\n0.5\n\n", None, "accuracy") == {"accuracy": 0.5}
    assert read_score('x\n{"loss": 2, "accuracy": 0.5, "name": "x", "seed": 3}\n', None, "accuracy") == {
        "loss": 2,
        "accuracy": 0.5,
    }
    out = tmp_path / "out"
    out.write_text('{\n"accuracy": 0.25\n}')
    assert read_score("1.0", out, "accuracy") == {"accuracy": 0.25}
    for output, expected in (
        ("", "no score: expected JSON or a number in the last line of its output, received ''"),
        ("accuracy 0.5", "received 'accuracy 0.5'"),
        ("true", "received 'true'"),
        ('{"acc": 1}', "expected a score called 'accuracy', received acc: name one of these as score"),
        ('{"accuracy": "high"}', "a score should be a number, received 'high'"),
        ("inf", "accuracy should be finite, received inf"),
    ):
        with pytest.raises(ScoreError, match=expected):
            read_score(output, None, "accuracy")
    with pytest.raises(ScoreError, match=r"the command wrote no file to \{out\}"):
        read_score("1", tmp_path / "none", "accuracy")
