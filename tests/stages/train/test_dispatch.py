"""The stage `train` from its command to its files, on this machine."""

import contextlib
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from many_seeds.errors import UserError
from stages.study import files, params, paths
from stages.study.params import Params
from stages.train import __main__ as command
from stages.train import stage
from stages.train.dispatch import train_all
from stages.train.executors import batched_seeds
from stages.train.executors.interface import Execution
from stages.train.run import Failed, Run, Train, Trained
from tests.conftest import STUDY
from tests.support.runs import content_of, cut, flip_a_byte, planned

Digits = tuple[np.ndarray, np.ndarray]


@pytest.fixture
def one_worker(monkeypatch: pytest.MonkeyPatch, tensorflow_ready: None) -> None:
    """Training in this process."""
    monkeypatch.setenv("STUDY_WORKERS", "1")


@pytest.fixture
def no_publisher(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stages.tracking.publisher.Publisher.publish", lambda *_: 0)


def test_a_second_start_trains_damaged_runs_and_keeps_the_others(
    evaluated: Path, study: Params, one_worker: None, no_publisher: None, capsys: pytest.CaptureFixture[str]
) -> None:
    before = content_of(evaluated / "models" / "random_features")
    kept = (paths.run_path("random_features", 0) / "model.keras").stat()
    flip_a_byte(paths.run_path("random_features", 1) / "model.keras")
    (paths.MODELS / "random_features" / ".1.unfinished").mkdir()
    stage.train(study, ["random_features"], on_finish=lambda variant, seed: None)
    assert "2 runs, 1 of them finished before" in capsys.readouterr().out
    after = content_of(evaluated / "models" / "random_features")
    assert before.keys() == after.keys()
    assert {name for name in after if after[name] != before[name]} == {"1/run.json"}  # the time it took
    assert (paths.run_path("random_features", 0) / "model.keras").stat().st_ino == kept.st_ino


def test_the_error_for_an_unknown_backend_names_it(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "tensorfow")
    monkeypatch.setattr(sys, "argv", ["train", "plain"])
    with pytest.raises(SystemExit, match="tensorfow"):
        command.main()


def test_unfinished_files_of_an_interrupted_stage_are_deleted_by_the_next_start(
    evaluated: Path, study: Params, no_publisher: None
) -> None:
    left = paths.curves_path("random_features").with_name(".curves.csv.abcdef12")
    left.mkdir()
    (left / "curves.csv").write_text("seed,epo")
    stage.train(study, ["random_features"], on_finish=lambda variant, seed: None)
    assert not left.exists()


def test_a_damaged_curve_is_repaired_by_the_next_start(
    evaluated: Path, study: Params, one_worker: None, no_publisher: None
) -> None:
    before = paths.curves_path("random_features").read_bytes()
    cut(paths.run_path("random_features", 1) / "curves.csv")
    stage.train(study, ["random_features"], on_finish=lambda variant, seed: None)
    assert paths.curves_path("random_features").read_bytes() == before


def test_with_study_reuse_evaluated_runs_count_as_finished_without_their_models(
    evaluated: Path,
    study: Params,
    one_worker: None,
    no_publisher: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A clone without models trains an additional seed."""
    curves = paths.curves_path("random_features").read_bytes()
    shutil.rmtree(paths.MODELS)
    monkeypatch.setenv("STUDY_REUSE", "1")
    stage.train(with_seeds(3), ["random_features"], on_finish=lambda variant, seed: None)
    assert capsys.readouterr().out == (
        "3 runs, 2 of them finished before\n2 of them as they were evaluated, without their models\n"
    )
    assert [path.name for path in (paths.MODELS / "random_features").iterdir()] == ["2"]
    assert paths.curves_path("random_features").read_bytes().startswith(curves)
    assert seeds_of_curves(with_seeds(3), "random_features") == [0, 1, 2]


def with_seeds(count: int) -> Params:
    return params.parse(STUDY.replace("seeds: 2", f"seeds: {count}"), f"{count} seeds")


def seeds_of_curves(study: Params, variant: str) -> list[int]:
    columns = ["seed", *study.recipe(variant).curve]
    return list(files.read_table(paths.curves_path(variant), columns)["seed"].unique())


def test_two_more_seeds_train_two_more_runs_and_fewer_seeds_remove_theirs(
    evaluated: Path, one_worker: None, no_publisher: None, capsys: pytest.CaptureFixture[str]
) -> None:
    before = content_of(evaluated / "models" / "random_features")
    stage.train(with_seeds(4), ["random_features"], on_finish=lambda variant, seed: None)
    assert "4 runs, 2 of them finished before" in capsys.readouterr().out
    after = content_of(evaluated / "models" / "random_features")
    assert {name: after[name] for name in before} == before
    assert seeds_of_curves(with_seeds(4), "random_features") == [0, 1, 2, 3]
    stage.train(with_seeds(1), ["random_features"], on_finish=lambda variant, seed: None)
    assert [entry.name for entry in (paths.MODELS / "random_features").iterdir()] == ["0"]
    assert seeds_of_curves(with_seeds(1), "random_features") == [0]


def test_seeds_that_another_command_adds_meanwhile_are_not_deleted(
    evaluated: Path, one_worker: None, no_publisher: None
) -> None:
    """As `make settle` does beside `dvc repro`."""
    added = paths.run_path("random_features", 3)

    def add_seeds(variant: str, seed: int) -> None:
        params.PARAMS.write_text(STUDY.replace("seeds: 2", "seeds: 4"))
        shutil.copytree(paths.run_path("random_features", 0), added)

    with pytest.raises(UserError, match=r"params\.yaml was edited .* has more seeds of random_features now"):
        stage.train(with_seeds(3), ["random_features"], on_finish=add_seeds)
    assert added.exists()
    assert paths.run_path("random_features", 2).exists()


def test_the_curves_of_a_variant_are_those_of_its_seeds_in_order(evaluated: Path, study: Params) -> None:
    for variant in study.variants:
        parts = [pd.read_csv(paths.run_path(variant, seed) / "curves.csv") for seed in (0, 1)]
        together = pd.read_csv(paths.curves_path(variant))
        pd.testing.assert_frame_equal(together, pd.concat(parts, ignore_index=True))


def fake(run: Run, images: np.ndarray, labels: np.ndarray, progress: Path | None) -> Trained | Failed:
    """Trains nothing, and fails with seed 0."""
    if run.seed == 0:
        return Failed(run, "loss is nan")
    facts = {"seconds": 1.0, "epochs": 1, "dev_accuracy": 0.5}
    return Trained(run, {"model.keras": b"model", "curves.csv": b"", "run.json": b"{}"}, facts)


def test_a_failed_run_is_named_and_the_others_are_kept(
    workspace: Path, study: Params, digits: Digits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STUDY_WORKERS", "1")
    finished_runs: list[str] = []
    with pytest.raises(UserError) as error:
        train_all(
            planned(study, "plain", "ridge"),
            *digits,
            on_finish=lambda variant, seed: finished_runs.append(f"{variant} seed {seed}"),
            train=fake,
        )
    assert finished_runs == ["plain seed 1", "ridge seed 1"]
    assert "2 of 4 runs failed; the others are kept" in str(error.value)
    assert "  plain seed 0, ridge seed 0: loss is nan" in str(error.value)
    assert sorted(path.name for path in paths.MODELS.glob("*/*")) == ["1", "1"]
    assert (paths.run_path("plain", 1) / "model.keras").read_bytes() == b"model"


def test_a_run_is_on_disk_before_on_finish_is_called(
    workspace: Path, study: Params, digits: Digits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STUDY_WORKERS", "1")
    runs = [run for run in planned(study, "plain", "ridge") if run.seed == 1]
    counts: list[int] = []

    def count(variant: str, seed: int) -> None:
        counts.append(len(list(paths.MODELS.glob("*/1/run.json"))))

    train_all(runs, *digits, on_finish=count, train=fake)
    assert counts == [1, 2]


def raise_for_seed_0(run: Run, images: np.ndarray, labels: np.ndarray, progress: Path | None) -> Trained | Failed:
    if run.seed == 0:
        raise MemoryError("no room for 57 MB")
    return fake(run, images, labels, progress)


def test_an_unexpected_error_ends_one_run_and_the_others_continue(
    workspace: Path, study: Params, digits: Digits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STUDY_WORKERS", "1")
    with pytest.raises(UserError, match="plain seed 0: MemoryError: no room for 57 MB"):
        train_all(planned(study, "plain"), *digits, on_finish=lambda variant, seed: None, train=raise_for_seed_0)
    assert [path.name for path in (paths.MODELS / "plain").iterdir()] == ["1"]


@contextlib.contextmanager
def small_device(runs: Sequence[Run], images: np.ndarray, labels: np.ndarray, train: Train) -> Iterator[Execution]:
    """Batched seeds on a device that has no room for the variant `watched`."""

    def results() -> Iterator[Trained | Failed]:
        for run in runs:
            if run.variant == "watched":
                raise RuntimeError("RESOURCE_EXHAUSTED: out of memory")
            yield fake(run, images, labels, None)

    yield results(), lambda: ""


def test_a_variant_that_is_too_large_for_batched_seeds_fails_and_the_others_are_trained(
    workspace: Path, study: Params, digits: Digits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batched_seeds, "training", small_device)
    every = [run for run in planned(study, "watched", "plain", "random_features") if run.seed == 1]
    runs = [replace(run, executor=batched_seeds.NAME) for run in every]
    with pytest.raises(UserError) as error:
        train_all(runs, *digits, on_finish=lambda variant, seed: None)
    assert "1 of 3 runs failed" in str(error.value)
    assert "  watched seed 1: RuntimeError: RESOURCE_EXHAUSTED: out of memory" in str(error.value)
    assert sorted(path.parent.name for path in paths.MODELS.glob("*/1")) == ["plain", "random_features"]


def test_the_error_for_an_unknown_variant_lists_all_variants(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["train", "mlp_tunde"])
    with pytest.raises(SystemExit) as end:
        command.main()
    assert end.value.code == (
        "error: unknown variant 'mlp_tunde': params.yaml has ridge, random_features, plain, watched"
    )
