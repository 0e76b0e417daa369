"""`many_seeds.decide`: seeds are added where a result is open, and every score is kept."""

import csv
import math
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any, assert_type

import pytest

import many_seeds as ms
from many_seeds import RaceResult, Results, UserError
from many_seeds.ledger import parse
from many_seeds.running import cluster as cluster_module
from many_seeds.running.cluster import cluster_workers, execute_function
from many_seeds.running.functions import pickled
from many_seeds.running.pool import Pool
from many_seeds.running.runs import Outcome, Run
from many_seeds.running.store import Store
from tests import ROOT
from tests.many_seeds.running.training import broken, flaky, never, score, slow, train
from tests.support.command import verdict

VARIANTS = {"base": {"mean": 1.0}, "same": {"mean": 1.0001}, "better": {"mean": 3.0}}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def decide(function: Any, variants: Any = VARIANTS, **options: Any) -> Results:
    defaults: dict[str, Any] = {"store": "scores.csv", "margin": 0.5, "verbose": False}
    results: Results = ms.decide(function, variants, **(defaults | options))
    return results


def rows() -> list[dict[str, str]]:
    with Path("scores.csv").open() as file:
        return list(csv.DictReader(file))


def seeds_of(variant: str) -> list[int]:
    return sorted(int(row["seed"]) for row in rows() if row["variant"] == variant)


def test_a_null_and_a_clear_comparison_end_and_the_same_call_makes_no_run_again(
    capsys: pytest.CaptureFixture[str],
) -> None:
    results = decide(train, baseline="base", workers=2, verbose=True)
    assert [result.verdict for result in results] == ["equivalent", "better"]
    assert {name: seeds_of(name) for name in VARIANTS} == {name: list(range(10)) for name in VARIANTS}
    assert all(float(row["score"]) == score(int(row["seed"]), VARIANTS[row["variant"]]["mean"]) for row in rows())
    printed = capsys.readouterr().err
    assert "base → same: 0 → 10 seeds, 20 runs" in printed
    assert "better 9: score " in printed
    assert "2 of 2 comparisons have a verdict: 1 better, 1 equivalent" in printed
    again = ms.decide(never, VARIANTS, baseline="base", store="scores.csv", margin=0.5, verbose=False)
    assert assert_type(again, Results).to_dict() == results.to_dict()
    from_file = verdict("scores.csv", "--metric", "score", "--baseline", "base", "--margin", "0.5")
    assert from_file.status == 0
    assert [line.split()[2] for line in from_file.out.splitlines() if line.startswith("base ")] == [
        "equivalent",
        "better",
    ]


def test_seeds_are_added_to_the_undecided_comparison_only_up_to_the_maximum() -> None:
    results = decide(train, pairs=[("base", "same"), ("base", "better")], margin=0.001, most=13)
    assert [(result.verdict, result.n) for result in results] == [("undecided", 13), ("better", 10)]
    more = decide(train, pairs=[("base", "same"), ("base", "better")], margin=0.001, most=14)
    assert more["base", "same"].n == 14
    assert more["base", "same"].low >= results["base", "same"].low  # the intersection of intervals


def test_a_race_ends_with_a_winner_and_eliminated_variants_get_no_more_seeds() -> None:
    close = VARIANTS | {"best": {"mean": 3.01}}
    result = ms.decide(train, close, race=True, store="scores.csv", margin=0.0001, most=16, verbose=False)
    assert_type(result, RaceResult)
    assert set(result.standing.eliminated) >= {"base", "same"}
    assert len(seeds_of("base")) == 10
    assert result.standing.leader in ("better", "best")
    assert str(result).splitlines()[2].startswith(f"{result.standing.leader} ")
    printed = " ".join(str(result).split())
    assert "Margin: 0.0001. A higher score is better." in printed
    assert "worse than the best by less than the margin, if at all, with at least 95 % confidence" in printed
    assert result.winner == (result.standing.leader if result.standing.ended else None)


def test_later_comparisons_are_a_batch_with_a_smaller_level_and_seen_scores_do_not_count() -> None:
    decide(train, pairs=[("base", "same")])
    results = decide(train, pairs=[("base", "same"), ("base", "better")])
    assert (results["base", "better"].from_seed, results.family) == (0, 2)  # better is new
    results = decide(train, pairs=[("same", "better")])
    assert (results["same", "better"].from_seed, results.family) == (10, 3)
    assert seeds_of("same") == seeds_of("better") == list(range(20))
    ledger = parse(Path("scores.comparisons.csv").read_text(), "ledger")
    assert [(row.batch, row.withdrawn) for row in ledger] == [(1, "yes"), (2, "yes"), (3, "")]
    assert [row.level for row in ledger] == pytest.approx([0.04, 0.005, 0.01 / 6])
    race = ms.decide(train, VARIANTS, race=True, store="scores.csv", most=1, verbose=False)
    assert "seeds count from seed 20 on" in race.remarks[0]


def test_a_failing_run_is_repeated_once_and_recorded_and_other_comparisons_go_on(
    capsys: pytest.CaptureFixture[str],
) -> None:
    pairs = [("base", "better"), ("base", "same")]
    results = decide(flaky, pairs=pairs, verbose=True, workers=2)
    assert [(result.verdict, result.n) for result in results] == [("undecided", 4), ("equivalent", 10)]
    assert Path("attempts").read_text() == "xx"
    [failed] = [row for row in rows() if row["status"] != "ok"]
    assert (failed["variant"], failed["seed"], failed["score"]) == ("better", "4", "")
    assert failed["status"] == "failed: RuntimeError: no luck"
    assert "1 failed run, without a score: better 4 (RuntimeError: no luck)" in " ".join(results.remarks)
    printed = capsys.readouterr().err
    assert 'raise RuntimeError("no luck")' in printed  # the end of the traceback
    assert "base → better is open: a run of better failed; the next call trains it again" in printed
    chosen = verdict("scores.csv", "--metric", "score", "--pairs", "base:better", "--where", "status=ok")
    assert "left out by --where: 1 row with the status failed. If they were stopped because of" in (
        " ".join(chosen.out.split())
    )
    Path("repaired").touch()
    results = decide(flaky, pairs=pairs)
    assert (results[0].verdict, results[0].n, results.remarks) == ("better", 10, ())
    assert [row["status"] for row in rows()] == ["ok"] * 30


def test_a_run_that_dies_or_diverges_is_a_failed_run() -> None:
    decide(broken, pairs=[("base", "better")], most=2, workers=2)
    reasons = {row["seed"]: row["status"] for row in rows() if row["variant"] == "better"}
    assert reasons["0"].startswith("failed: its process died")
    assert reasons["1"].startswith("failed: score should be finite, received nan: a run that diverged counts")
    assert seeds_of("base") == [0, 1]


def test_a_run_that_takes_too_long_is_a_failed_run() -> None:
    decide(slow, pairs=[("base", "better")], timeout=0.3, most=1, workers=2)
    assert {row["status"] for row in rows()} == {"failed: it took longer than the time limit of 0.3 s"}


def test_a_run_sees_the_gpu_of_its_worker_and_shares_the_cores() -> None:
    def gpu(seed: int, mean: float) -> dict[str, float | str]:
        return {"score": float(seed), "gpu": float(os.environ["CUDA_VISIBLE_DEVICES"]), "name": "x"}

    decide(gpu, pairs=[("base", "same")], gpus=[5, 7], most=4)
    assert {row["gpu"] for row in rows()} == {"5.0", "7.0"}
    assert "name" not in rows()[0]


def test_equal_scores_and_equal_differences_get_no_seeds_without_end() -> None:
    def shifted(seed: int, mean: float) -> float:
        return seed + (mean > 2)

    results = decide(shifted, baseline="base")
    assert [(result.verdict, result.n, result.tied) for result in results] == [
        ("unchanged", 10, False),
        ("undecided", 10, True),
    ]
    assert "every seed has the same difference" in " ".join(results.remarks)
    clear = {name: VARIANTS[name] for name in ("base", "better")}
    race = ms.decide(shifted, clear, race=True, store="race.csv", margin=0.1, verbose=False)
    assert (race.standing.n, race.winner) == (10, None)


def test_the_fixed_design_makes_one_number_of_seeds_and_refuses_another() -> None:
    fixed = decide(train, pairs=[("base", "better")], design="fixed", most=5)
    assert (fixed[0].n, fixed[0].verdict) == (5, "better")
    with pytest.raises(UserError, match=r"base of scores\.csv has 5, received most=6"):
        decide(never, pairs=[("base", "better")], design="fixed", most=6)
    with pytest.raises(UserError, match=r"entered with confidence 0\.95 and the design fixed; the study has .* open"):
        decide(never, pairs=[("base", "better")])
    with pytest.raises(UserError, match="the fixed design needs most"):
        decide(never, store="other.csv", design="fixed")


def test_the_fixed_design_has_no_interval_before_all_its_seeds_exist() -> None:
    def decide_fixed() -> Results:
        return decide(flaky, pairs=[("base", "better"), ("base", "same")], design="fixed", most=6)

    early, whole = decide_fixed()
    assert (early.n, early.verdict, early.low, early.high) == (4, "undecided", -math.inf, math.inf)
    assert math.isnan(early.difference)
    assert (whole.n, whole.verdict) == (6, "equivalent")
    remarks = " ".join(decide_fixed().remarks)
    assert "no interval before all 6 seeds exist, since the fixed design is for one look: base:better (2 missing)" in (
        remarks
    )
    Path("repaired").touch()
    assert [(result.n, result.verdict) for result in decide_fixed()] == [(6, "better"), (6, "equivalent")]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"pairs": [("base", "worse")]}, "pairs should be .* of two variants of base, same, better"),
        ({"race": True, "baseline": "base"}, "expected no pairs and no baseline with race"),
        ({"workers": 0}, "workers should be a whole number of 1 or more, received 0"),
        ({"hours": -1}, "hours should be a number of hours above 0, received -1"),
        ({"timeout": "1"}, "timeout should be a number of seconds above 0, received '1'"),
        ({"gpus": "0,1"}, r"gpus should be a list of numbers, such as \[0, 1\], received '0,1'"),
        ({"gpus": 2}, r"gpus should be a list of numbers, such as \[0, 1\], received 2"),
        ({"margin": -1}, "margin should be"),
        ({"variants": {"a": {"x": 1}, "b": {"x": 1}}}, "a and b have the same fields"),
        ({"variants": {"a": {"x": 1}, "b": {"x": object()}}}, "give names in place of objects"),
        ({"variants": {"a": {"x": 1}, " b": {"x": 2}}}, "printable text without blanks around it, received ' b'"),
        ({"variants": {"a": {"seed": 1}, "b": {"seed": 2}}}, "variant a can't have the field seed"),
        ({"store": "."}, r"the store should be a CSV file, received the folder '\.'"),
        ({"score": "test_loss"}, "is a lower test_loss better?"),
        ({"variants": ["a", "b"]}, "variants should map each name to its fields"),
        ({"race": True, "design": "fixed", "most": 5}, "a race adds seeds, so it needs the open design"),
    ],
)
def test_an_argument_out_of_range_is_an_error_before_anything_runs(options: dict[str, Any], expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        decide(never, **options)
    assert not Path("scores.csv").exists()


def test_scores_without_the_variants_beside_them_do_not_start_a_new_ledger() -> None:
    decide(train, pairs=[("base", "better")], most=2)
    Path("scores.variants.json").unlink()
    with pytest.raises(UserError, match=r"scores of base, better, which scores\.variants\.json does not describe"):
        decide(never, pairs=[("base", "same")])


def test_no_two_stores_share_a_ledger_and_that_of_a_csv_file_keeps_its_name() -> None:
    stores = ["lr_0.1", "lr_0.2", "lr_0.1.csv", "runs", "runs.csv", "runs.tsv", "runs.CSV"]
    for store in stores:
        decide(train, pairs=[("base", "better")], store=store, hours=1e-9)
    ledgers = [str(path) for path in Path().glob("*comparisons.csv")]
    variants = [str(path) for path in Path().glob("*variants.json")]
    assert len(ledgers) == len(variants) == len(stores)
    assert {"runs.comparisons.csv", "lr_0.1.comparisons.csv", "runs.tsv_comparisons.csv"} <= set(ledgers)
    assert {"runs.variants.json", "lr_0.1.variants.json", "runs.tsv_variants.json"} <= set(variants)


def test_a_variant_with_other_fields_needs_another_name() -> None:
    decide(train, pairs=[("base", "better")], most=2)
    with pytest.raises(UserError, match=r"has runs of another variant base: .*1\.0.*; received .*1\.5"):
        decide(never, VARIANTS | {"base": {"mean": 1.5}}, pairs=[("base", "better")])


def test_no_run_starts_without_time_and_a_function_that_cannot_be_sent_is_an_error() -> None:
    results = decide(never, pairs=[("base", "same")], hours=1e-9)
    assert (results[0].n, results[0].verdict, Path("scores.csv").exists()) == (0, "undecided", False)
    with Path("open").open("w") as file, pytest.raises(UserError, match="train should be a function that can be pick"):
        decide(lambda seed, mean: file.write("x"), pairs=[("base", "same")])
    with pytest.raises(UserError, match=r"train should be a function, called as .* received 'train\.py'"):
        decide("train.py")


PROGRAM = """
import os, threading
import many_seeds as ms

files = []

def train(seed, mean):
    if not files and os.path.exists("alive"):
        files.append(open("alive", "w"))  # until this process ends
    if os.path.exists("alive") and seed >= int(os.environ["BLOCKED"]):
        threading.Event().wait()
    return mean + (37 * seed) % 11

ms.decide(train, {"a": {"mean": 0}, "b": {"mean": 50}}, store="scores.csv", workers=2, resolution=1.0)
"""


def test_a_program_that_is_stopped_ends_its_workers_and_goes_on_from_its_scores() -> None:
    os.mkfifo("alive")
    for blocked, count, signum in ((1, 2, signal.SIGINT), (4, 6, signal.SIGKILL)):
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            env=os.environ | {"PYTHONPATH": str(ROOT), "BLOCKED": str(blocked)},
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a background job has it ignored
        )
        assert process.stderr is not None
        with Path("alive").open() as alive:
            for _ in range(count):
                while ": score " not in (line := process.stderr.readline()):
                    assert line, "the process has ended"
            process.send_signal(signum)
            assert alive.read() == ""  # which ends with the last worker
        _, errors = process.communicate(timeout=30)
        assert process.returncode == -signum
        assert "resource_tracker" not in errors
        assert len(rows()) == 2 * blocked
    Path("alive").unlink()
    before = len(rows())
    subprocess.run([sys.executable, "-c", PROGRAM], env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True)
    assert len(rows()) > before
    assert all(float(row["score"]) == (37 * int(row["seed"])) % 11 + 50 * (row["variant"] == "b") for row in rows())
    assert len({(row["variant"], row["seed"]) for row in rows()}) == len(rows())


class WithoutProcess:
    """What the workers of these tests have in common."""

    def is_ready(self) -> bool:
        return True

    def kill(self) -> None:
        pass

    close = kill


class Slow(WithoutProcess):
    """A worker whose runs take 50 minutes of their own clock."""

    def start(self, run: Run) -> "Future[Outcome]":
        future = Future[Outcome]()
        future.set_result(Outcome({"score": 1.0}, 3000.0, ""))
        return future


def test_a_run_does_not_start_if_it_is_expected_to_end_too_late() -> None:
    store = Store(Path("scores.csv"))
    pool = Pool([Slow()], store, "score", None, "", print)
    runs = [Run(name, seed) for seed in range(2) for name in ("base", "better")]
    assert not pool.train(runs, time.monotonic() + 1800)  # the first duration is not known before
    assert [(row["variant"], row["seed"]) for row in rows()] == [("base", "0")]
    assert pool.train(runs, math.inf)
    assert len(rows()) == 4


def test_a_call_ends_if_single_runs_are_too_long_for_the_time_that_is_left(capsys: pytest.CaptureFixture[str]) -> None:
    decide(train, pairs=[("base", "better")], most=1)
    lines = [line.split(",") for line in Path("scores.csv").read_text().splitlines()]
    lines = [lines[0], *([*cells[:3], "3000.0", *cells[4:]] for cells in lines[1:])]
    Path("scores.csv").write_text("".join(",".join(cells) + "\n" for cells in lines))
    decide(never, pairs=[("base", "better")], most=2, workers=4, hours=0.5, verbose=True)
    assert "base → better is open: no time is left for its next runs" in capsys.readouterr().err
    assert len(rows()) == 2


class Lost(WithoutProcess):
    """A worker of a cluster whose scheduler ends."""

    def start(self, run: Run) -> "Future[Outcome]":
        future = Future[Outcome]()
        future.cancel()
        future.set_running_or_notify_cancel()
        return future


def test_a_cluster_that_has_gone_is_an_error_and_its_runs_can_be_made_again() -> None:
    store = Store(Path("scores.csv"))
    pool = Pool([Lost()], store, "score", None, "", print)
    with pytest.raises(UserError, match="the cluster has cancelled base 0: its scheduler has ended"):
        pool.train([Run("base", 0)], math.inf)
    claim = store.claim(Run("base", 0))
    assert claim is not None
    claim.release()


@pytest.mark.pipeline
def test_a_function_runs_on_a_dask_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    from distributed import LocalCluster

    def pid(seed: int, mean: float) -> dict[str, float]:
        if mean == 3.0:
            os._exit(3)
        return {"score": mean, "pid": os.getpid()}

    def endless(seed: int, mean: float) -> float:
        with Path("alive").open("w") as alive:
            print("started", file=alive, flush=True)
            threading.Event().wait()
        return mean

    with LocalCluster(n_workers=1, threads_per_worker=2, processes=False, dashboard_address="") as cluster:
        monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", cluster.scheduler_address)
        decide(pid, pairs=[("base", "same"), ("base", "better")], most=1)
        pids = {row["variant"]: row["pid"] for row in rows()}
        assert len({str(float(os.getpid())), pids["base"], pids["same"]}) == 3
        assert [row["status"] for row in rows() if row["variant"] == "better"] == [
            "failed: its process died: it was killed, or the machine ran out of memory"
        ]
        monkeypatch.setattr(cluster_module, "LOOK_SECONDS", 0.01)
        os.mkfifo("alive")
        with cluster_workers(partial(execute_function, pickled(endless), VARIANTS, "score"), 1) as [worker]:
            worker.start(Run("base", 0))
            with Path("alive").open() as alive:
                assert alive.readline() == "started\n"
                worker.kill()
                assert alive.read() == ""  # which ends with the process of the function
        with pytest.raises(UserError, match="timeout and gpus are for this machine"):
            decide(never, pairs=[("base", "same")], timeout=1)
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", "nonsense://here")
    with pytest.raises(UserError, match="no Dask scheduler answers at DASK_SCHEDULER_ADDRESS=nonsense://here"):
        decide(never, pairs=[("base", "same")])
