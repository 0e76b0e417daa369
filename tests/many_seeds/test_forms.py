"""Scores in the forms in which programs write them: read, or refused with the name of the form and the way out."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import many_seeds as ms
from tests.support.command import Run, assert_refused, long, only, parsed, write

GENERATOR = np.random.default_rng(0)
A = GENERATOR.normal(0.90, 0.002, 8).round(4).tolist()
B = GENERATOR.normal(0.95, 0.002, 8).round(4).tolist()
SCORES = {"a": A, "b": B}
GAIN = pytest.approx(float(np.mean(B) - np.mean(A)))


def rows(header: str, row: Callable[[str, int, float], str]) -> str:
    """A file with a row for each run."""
    return "\n".join([header, *(row(name, seed, of[seed]) for name, of in SCORES.items() for seed in range(8))]) + "\n"


def difference(run: Run, *arguments: str) -> float:
    result = only(run(*arguments, "--json"))
    assert (result["a"], result["b"], result["n"]) == ("a", "b", 8)
    return float(result["difference"])


CHART = "\n".join(
    ['"Step","group: a - acc","group: a - acc__MIN","group: b - acc"'] + [f"{step},0.8,0.7,0.9" for step in range(50)]
)
CURVES = "Wall time,Step,Value\n" + "".join(f"{1.7e9 + step},{step},0.5\n" for step in range(20))
LOG = "epoch,step,train_loss,val_acc\n0,50,1.0,\n0,99,,0.8\n"
STATE = json.dumps({"global_step": 9, "log_history": [{"loss": 1.0, "epoch": 1.0}, {"eval_accuracy": 0.8}]}, indent=2)
HARNESS = json.dumps({"results": {"task": {"acc,none": 0.5}}, "config": {"model": "m"}}, indent=2)
FOLDED = "param_c,split0_test_score,split1_test_score,mean_test_score\n1,0.9,0.8,0.85\n2,0.9,0.9,0.9\n"
TRANSPOSED = "model,seed_0,seed_1,seed_2\na,0.9,0.8,0.85\nb,0.9,0.9,0.9\n"
STEPS = "steps, epochs and times of one run are not independent runs"

REFUSED: dict[str, tuple[str | bytes, list[str], str]] = {
    "a chart of a tracker": (CHART, ["--wide"], f"'Step' counts steps: {STEPS}"),
    "a chart by its steps": (CHART, ["--wide", "--seed", "Step"], "group: a - acc__MIN have bounds of another column"),
    "a chart without bounds": (
        CHART.replace("acc__MIN", "f1"),
        ["--wide", "--seed", "Step"],
        "--seed names 'Step', which counts steps or time",
    ),
    "a curve as columns": (CURVES, ["--wide"], "'Wall time' counts steps"),
    "a curve": (CURVES, [], "rows are numbered by Wall time, so this is the curve of one run"),
    "epochs for seeds": (long(SCORES).replace("seed", "train/epoch"), ["--seed", "train/epoch"], "which counts steps"),
    "times for variants": (long(SCORES).replace("variant", "date"), ["--by", "date"], "--by names 'date', which"),
    "steps for variants": (long(SCORES).replace("variant", "epoch"), ["--by", "epoch"], "--by names 'epoch', which"),
    "numbers of epochs for seeds": (long(SCORES).replace("seed", "epochs"), ["--seed", "epochs"], "--seed names 'epo"),
    "the log of a run": (LOG, [], "give the files of all runs by a pattern in quotes, such as 'runs/{variant}/{seed}/"),
    "the state of a trainer": (STATE, [], "rows are numbered by epoch, so this is the curve of one run"),
    "results of a harness": (HARNESS, [], "name the score with --metric: results.task.acc,none"),
    "broken JSON": ('{\n "variant": \n}', [], "is not a JSON document or JSON lines: line 3, column 1"),
    "folds as columns": (FOLDED, ["--by", "param_c"], "split0_test_score, split1_test_score have the folds"),
    "a row for each variant": (TRANSPOSED, ["--by", "model"], "3 columns have its runs (seed_0, seed_1, seed_2): swap"),
    "the same with --wide": (TRANSPOSED, ["--wide"], "swap rows and columns, and read them with --wide"),
    "Parquet": (b"PAR1\x15\x04\0\0PAR1", [], "scores.csv is a Parquet file: expected CSV or JSON; convert it: `python"),
    "a workbook": (b"PK\x03\x04\0\0", [], "workbook of Excel or an .npz file: expected CSV or JSON; save its table as"),
    "gzip": (b"\x1f\x8b\x08\0", [], "`gunzip -c scores.csv | many-seeds verdict -`"),
    "a database": (b"SQLite format 3\0", [], "MLFLOW_TRACKING_URI=sqlite:///scores.csv many-seeds verdict --mlflow"),
    "HTML": ("<table><tr><td>a", [], "is an HTML or XML document"),
    "Markdown": ("| variant | seed | f1 |\n| --- | --- | --- |\n| a | 0 | 1 |\n", [], "is a Markdown table:"),
    "a printed data frame": ("  variant  seed   f1\n0  a  0  0.9\n", [], "columns separated by blanks, as"),
    "a drawn table": ("┏━━━┓\n┃ a ┃\n", [], "is a table with drawn borders"),
    "UTF-16 without a mark": ("variant,seed,f1\n".encode("utf-16-le"), [], "`iconv -f UTF-16LE -t UTF-8 scores.csv`"),
    "a loss": (long(SCORES).replace("accuracy", "val_loss"), [], "is a lower val_loss better?"),
    "an error": (long(SCORES).replace("accuracy", "testRMSE"), [], "--lower-is-better (in Python, lower_is"),
    "a share of errors": (long(SCORES).replace("accuracy", "false_negative_error"), [], "a lower false_negative_error"),
    "a time": (long(SCORES).replace("accuracy", "time"), [], "or the opposite with --higher-is-better"),
    "folds of a run": (
        rows("variant,seed,fold,f1", lambda name, seed, score: f"{name},{seed // 4},{seed % 4},{score}"),
        [],
        "the run variant a, seed 0 has a score for each fold: average them with --over fold",
    ),
    "epochs of a run": (
        rows("variant,seed,epoch,f1", lambda name, seed, score: f"{name},{seed // 4},{seed % 4},{score}"),
        [],
        "the run variant a, seed 0 has several scores, one for each epoch: choose with --at last",
    ),
    "pruned trials without a score": (
        rows("variant,seed,state,f1", lambda name, seed, score: f"{name},{seed},{'' if seed else 'TrialState.PRUNED'},"
             + (f"{score}" if seed else "")),
        [],
        "2 rows with the state TrialState.PRUNED have no f1: train these runs to the end",
    ),
    "runs sorted by score": (
        "variant,f1\n" + "".join(f"{name},{score}\n" for name, of in SCORES.items() for score in sorted(of)),
        ["--unpaired"],
        "those of a, b are sorted by score",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_table_of_runs_is_named_with_the_way_out(kind: str, run: Run) -> None:
    content, arguments, expected = REFUSED[kind]
    Path("scores.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    assert_refused(run("scores.csv", *arguments), expected)


COMMAS = rows("variant;seed;accuracy", lambda name, seed, score: f"{name};{seed};{score}".replace(".", ","))
ROWS = [{"variant": name, "seed": seed, "f": {"1": of[seed]}} for name, of in SCORES.items() for seed in range(8)]
READ: dict[str, tuple[str | bytes, list[str]]] = {
    "decimal commas": (COMMAS, []),
    "decimal commas in quotes": (
        rows("variant,seed,f1", lambda name, seed, score: f'{name},{seed},"{score}"'.replace(".", ",")), [],
    ),
    "UTF-16, as of PowerShell": (long(SCORES).encode("utf-16"), []),
    "a JSON list": (json.dumps(ROWS), []),
    "an indented JSON list": (json.dumps(ROWS, indent=2), ["--metric", "f.1"]),
    "columns in JSON": (json.dumps({"seed": list(range(8))} | SCORES), ["--wide"]),
    "columns as pandas writes them": (pd.DataFrame({"seed": range(8)} | SCORES).to_json(indent=1), ["--wide"]),
    "runs without seeds": (
        "variant,f1\n" + "".join(f"{name},{score}\n" for name, of in SCORES.items() for score in of), ["--unpaired"],
    ),
    "other seeds": (
        rows("variant,seed,f1", lambda name, seed, score: f"{name},{name}{seed},{score}"), ["--unpaired"],
    ),
    "a loss whose direction is stated": (long(SCORES).replace("accuracy", "loss"), ["--lower-is-better"]),
    "a negative loss": (long(SCORES).replace("accuracy", "neg_log_loss"), []),
    "a negative loss of a search": (long(SCORES).replace("accuracy", "mean_test_neg_log_loss"), []),
    "a negative error of a cross-validation": (long(SCORES).replace("accuracy", "test_neg_mean_squared_error"), []),
}  # fmt: skip


@pytest.mark.parametrize("kind", READ)
def test_other_forms_of_the_same_scores_give_the_same_difference(kind: str, run: Run) -> None:
    content, arguments = READ[kind]
    Path("scores.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    assert difference(run, "scores.csv", *arguments) == GAIN


def test_percentages_are_numbers_in_percent(run: Run) -> None:
    for sign, file in (("%", "s.csv"), (" %", "t.csv")):
        text = rows("variant,seed,f1", lambda name, seed, score, sign=sign: f"{name},{seed},{100 * score:.2f}{sign}")  # type: ignore[misc]
        assert difference(run, write(text, file)) == pytest.approx(100 * (np.mean(B) - np.mean(A)))


@pytest.mark.parametrize(
    "document",
    [
        {"results": [{"command": name, "mean": 1.0, "times": of} for name, of in SCORES.items()]},
        {"machine_info": {}, "benchmarks": [{"name": name, "stats": {"data": of}} for name, of in SCORES.items()]},
        {
            "context": {},
            "benchmarks": [
                {"name": name, "run_type": kind, "real_time": time}
                for name, of in SCORES.items()
                for kind, time in [*(("iteration", time) for time in of), ("aggregate", 7.0)]
            ],
        },
    ],
    ids=["hyperfine", "pytest-benchmark", "Google Benchmark"],
)
def test_measurements_of_a_benchmark_tool_are_unpaired_runs(document: dict[str, Any], run: Run) -> None:
    file = write(json.dumps(document, indent=2), "bench.json")
    assert difference(run, file, "--unpaired", "--lower-is-better") == GAIN
    assert "--unpaired: the first run of a is paired with the first of b" in " ".join(
        parsed(run(file, "--unpaired", "--lower-is-better", "--json"))["remarks"]
    )
    assert_refused(run(file), "--unpaired if runs have none in common")


def remarks(run: Run, text: str, *arguments: str) -> str:
    return " ".join(parsed(run(write(text), *arguments, "--json"))["remarks"])


def test_pruned_trials_are_named_whether_they_count_or_not(run: Run) -> None:
    text = rows("variant,seed,state,f1", lambda n, s, f: f"{n},{s},{'PRUNED' if s in (2, 5) else 'COMPLETE'},{f}")
    assert "counted as if they were: 4 rows with the state PRUNED. A tuner prunes" in remarks(run, text)
    left_out = remarks(run, text, "--where", "state=COMPLETE")
    assert "left out by --where: 4 rows with the state PRUNED" in left_out
    assert "this selects by score" in left_out
    finished = text.replace("PRUNED", "COMPLETE")
    assert remarks(run, finished) == ""


def test_variants_called_by_one_number_are_named(run: Run) -> None:
    text = rows("lr,seed,f1", lambda name, seed, score: f"{'0.1' if name == 'a' else '1e-1'},{seed},{score}")
    assert "variants are called by the same number" in remarks(run, text, "--by", "lr")


def test_a_condition_on_the_score_is_named(run: Run) -> None:
    text = "variant,seed,f1\na,0,1\na,1,1\nb,0,1\nb,1,2\n"
    assert "--where chooses runs by f1, the score that is compared" in remarks(
        run, text, "--where", "f1=1", "--metric", "f1"
    )


def test_folds_are_named_and_can_be_averaged(run: Run) -> None:
    by_fold = rows("variant,fold,f1", lambda name, fold, score: f"{name},{fold},{score}")
    assert "fold: folds of a cross-validation share training data" in remarks(run, by_fold, "--seed", "fold")
    assert "folds of a cross-validation share" in remarks(
        run, pd.DataFrame(SCORES).to_csv(index_label="fold"), "--wide"
    )
    mean = rows("variant,seed,mean_test_score", lambda name, seed, score: f"{name},{seed},{score}")
    assert "mean_test_score: folds of a cross-validation share training data" in remarks(run, mean)
    folds = rows("variant,seed,fold,f1", lambda n, s, f: f"{n},{s},0,{f + 0.01:.4f}\n{n},{s},1,{f - 0.01:.4f}")
    assert difference(run, write(folds), "--over", "fold") == GAIN
    assert "averaged over fold: 2 rows for each run" in remarks(run, folds, "--over", "fold")
    assert_refused(run(write(folds.rpartition("b,7,1")[0]), "--over", "fold"), "expects the same folds in every run")


def test_rows_that_follow_one_another_like_steps_are_named(run: Run) -> None:
    curves = np.random.default_rng(1).normal(0, 0.01, (2, 50)).cumsum(axis=1)
    walk = pd.DataFrame({"a": curves[0], "b": curves[1]}).to_csv(index_label="seed")
    assert "consecutive rows are strongly correlated: a (0." in remarks(run, walk, "--wide")
    short = pd.DataFrame({"a": curves[0, :15], "b": curves[1, :15]}).to_csv(index_label="seed")
    assert "consecutive rows are strongly correlated" in remarks(run, short, "--wide")
    independent = np.random.default_rng(1).normal(0, 0.01, (2, 50))
    assert (
        remarks(run, pd.DataFrame({"a": independent[0], "b": independent[1]}).to_csv(index_label="seed"), "--wide")
        == ""
    )
    table = pd.DataFrame({"a": independent[0], "b": independent[1]}).sort_values(
        "a"
    )  # seeds have an order of their own
    assert remarks(run, table.to_csv(index_label="seed"), "--wide") == ""


def test_seeds_that_are_too_few_for_the_pairs_are_named() -> None:
    scores = {f"v{place}": row for place, row in enumerate(np.random.default_rng(0).normal(size=(141, 10)))}
    assert "at m = 9,870 pairs, 10 seeds can't decide anything" in " ".join(ms.compare(scores).remarks)
    assert "can't decide" not in " ".join(ms.compare(scores, baseline="v0").remarks)


def test_python_reads_the_same_forms(tmp_path: Path) -> None:
    file = tmp_path / "scores.csv"
    file.write_text(COMMAS)
    assert ms.compare(file)["a", "b"].difference == GAIN
    wide = ms.compare(pd.DataFrame(SCORES).assign(seed=range(8)), wide=True, metric="f1")
    assert (wide.metric, wide["a", "b"].difference) == ("f1", GAIN)
    file.write_text(rows("model,rng,epoch,loss", lambda n, s, f: f"{n},{s},0,7\n{n},{s},1,{f}"))
    found = ms.compare(file, by=["model"], seed="rng", at="last", lower_is_better=True)
    assert (found["a", "b"].difference, found["a", "b"].verdict) == (GAIN, "worse")
    with pytest.raises(ms.UserError, match="is a lower loss better"):
        ms.compare(file, by=["model"], seed="rng", at="last")
    with pytest.raises(ms.UserError, match="a mapping has the scores of each variant"):
        ms.compare(SCORES, at="last")
    with pytest.raises(ms.UserError, match="at should be last or best, received 'first'"):
        ms.compare(file, at="first")  # type: ignore[arg-type]
