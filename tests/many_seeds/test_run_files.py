"""The files of runs, named by a pattern of their paths."""

import json
from pathlib import Path

import pytest

import many_seeds as ms
from tests.support.command import Run, assert_refused, only, parsed, write

PATTERN = "runs/{variant}/{seed}/metrics.csv"
FINAL = {"a": [0.1, 0.3, 0.2], "b": [0.7, 0.6, 0.9]}


@pytest.fixture
def run(run: Run) -> Run:
    """The command, in a folder with the logs of six runs, of three epochs each."""
    for name, scores in FINAL.items():
        for seed, score in enumerate(scores):
            folder = Path(f"runs/{name}/{seed}")
            folder.mkdir(parents=True)
            rows = [
                f"{epoch},{epoch * 9},1.0,,\n{epoch},{epoch * 9 + 8},,{score + epoch * (1 - epoch)},"
                for epoch in range(3)
            ]
            (folder / "metrics.csv").write_text(
                "\n".join(["epoch,step,train_loss,val_acc,test_acc", *rows, f"3,27,,,{score}"])
            )
    return run


def test_blank_cells_of_a_log_are_no_scores(run: Run) -> None:
    found = only(run(PATTERN, "--metric", "test_acc", "--design", "fixed", "--json"))
    assert (found["a"], found["b"], found["n"], found["difference"]) == ("a", "b", 3, pytest.approx(1.6 / 3))
    from_python = ms.compare(PATTERN, metric="test_acc", design="fixed")
    assert from_python["a", "b"].low == found["low"]


def test_the_last_or_the_best_value_is_stated(run: Run) -> None:
    assert_refused(run(PATTERN, "--metric", "val_acc"), "several scores, one for each epoch: choose with --at last")
    last = run(PATTERN, "--metric", "val_acc", "--at", "last", "--design", "fixed", "--json")
    assert only(last)["difference"] == pytest.approx(1.6 / 3)
    assert parsed(last)["remarks"] == ["--at last: the last of up to 3 values of each run"]
    Path("runs/a/0/metrics.csv").write_text("epoch,val_acc\n0,0.1\n1,5\n2,0.1\n")
    best = run(PATTERN, "--metric", "val_acc", "--at", "best", "--design", "fixed", "--json")
    assert only(best)["difference"] == pytest.approx((2.2 - 5.5) / 3)
    assert "selected by the score that is compared" in parsed(best)["remarks"][0]
    lowest = run(PATTERN, "--metric", "val_acc", "--at", "best", "--lower-is-better", "--design", "fixed", "--json")
    assert only(lowest)["difference"] == pytest.approx((2.2 - 6 - (0.1 - 1.7 - 1.8)) / 3)


def test_runs_that_ended_early_are_named(run: Run) -> None:
    Path("runs/b/1/metrics.csv").write_text("epoch,val_acc\n0,0.1\n1,0.2\n")
    remarks = parsed(run(PATTERN, "--metric", "val_acc", "--at", "last", "--json"))["remarks"]
    assert "the last score is at an earlier epoch than 2 in 1 run: b 1 at 1. If these runs were" in " ".join(remarks)


def test_rows_at_one_step_are_not_those_of_a_curve(run: Run) -> None:
    text = "variant,seed,data,epoch,f1\n" + "".join(
        f"{v},0,{d},9,{len(v + d)}\n" for v in ("a", "bb") for d in ("x", "yy")
    )
    assert_refused(run(write(text), "--metric", "f1"), "variant a has seed 0 twice, in line 2 and line 3")
    refused = run("scores.csv", "--metric", "f1", "--at", "last")
    assert_refused(refused, "the run variant a, seed 0, epoch 9 has several rows at one epoch")


def test_a_run_without_a_score_is_an_error(run: Run) -> None:
    Path("runs/b/2/metrics.csv").write_text("epoch,val_acc\n0,\n1,\n")
    refused = run(PATTERN, "--metric", "val_acc", "--at", "last")
    assert_refused(refused, "runs/b/2/metrics.csv, line 3 should have a finite number as val_acc, received an empty")


def test_errors_name_the_file_and_the_line(run: Run) -> None:
    Path("runs/b/1/metrics.csv").write_text("epoch,val_acc\n0,0.1\n1,nan\n")
    refused = run(PATTERN, "--metric", "val_acc", "--at", "last")
    assert_refused(refused, "runs/b/1/metrics.csv, line 3 should have a finite number as val_acc")


def test_a_pattern_without_files_names_what_there_is(run: Run) -> None:
    assert_refused(run("runs/a/{seed}/{variant}.csv/x"), "no file matches 'runs/a/{seed}/{variant}.csv/x'")
    assert_refused(run("runz/{variant}.csv"), "the folder . has runs")
    assert_refused(run("runs/{variant}-{seed}/metrics.csv"), "the folder runs has a, b")


def test_two_stars_stand_for_any_number_of_folders_also_none(run: Run) -> None:
    for name, folder in (("a", "deep/a"), ("b", "deep/more/still/b")):
        Path(folder).mkdir(parents=True)
        for seed, score in enumerate(FINAL[name]):
            Path(folder, f"{seed}.csv").write_text(f"acc\n{score}\n")
    found = only(run("deep/**/{variant}/{seed}.csv", "--design", "fixed", "--json"))
    assert (found["a"], found["b"], found["n"]) == ("a", "b", 3)


def test_a_field_that_is_no_name_is_refused(run: Run) -> None:
    assert_refused(run("runs/{1}/{seed}/metrics.csv"), "should be a name, such as {variant}, received {1}")


def test_files_of_one_name_get_the_pattern_of_their_paths(run: Run) -> None:
    files = [f"runs/{name}/{seed}/metrics.csv" for name in FINAL for seed in range(3)]
    refused = run(*files)
    assert_refused(refused, "6 files called metrics.csv: name the variant and the seed in their paths")
    assert f"such as '{PATTERN}'" in refused.err


def test_each_of_several_files_is_a_variant(run: Run) -> None:
    for name, scores in FINAL.items():
        write("seed,acc\n" + "".join(f"{seed},{score}\n" for seed, score in enumerate(scores)), f"{name}.csv")
    found = only(run("b.csv", "a.csv", "--design", "fixed", "--json"))
    assert (found["a"], found["b"], found["difference"]) == ("b", "a", pytest.approx(-1.6 / 3))
    assert_refused(run("a.csv", "a.csv"), "a.csv is named twice")


def test_a_document_of_each_run_is_read(run: Run) -> None:
    for name, scores in FINAL.items():
        for seed, score in enumerate(scores):
            text = json.dumps({"results": {"task": {"acc,none": score}}, "versions": [1]}, indent=2)
            write(text, f"{name}_s{seed}.json")
    of = ["{variant}_s{seed}.json", "--design", "fixed", "--json"]
    assert only(run(*of, "--metric", "results.task.acc,none"))["difference"] == pytest.approx(1.6 / 3)


def test_other_fields_of_a_pattern_distinguish_variants_too(run: Run) -> None:
    of = ["runs/{model}/{rng}/metrics.csv", "--by", "model", "--seed", "rng", "--metric", "test_acc", "--json"]
    assert only(run(*of, "--design", "fixed"))["n"] == 3
    assert_refused(run("runs/{variant}/{epoch}/metrics.csv", "--metric", "test_acc"), "has a column 'epoch' with other")
