import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import joblib
import numpy as np
import pandas as pd
import pytest

from stages import files, params, records
from stages.errors import StudyError
from stages.params import Params
from stages.train import __main__ as stage
from stages.train import schedule
from stages.train.run import Failed, Run, Trained
from tests.conftest import STUDY

Digits = tuple[np.ndarray, np.ndarray]


def plan(study: Params, *variants: str) -> list[Run]:
    return schedule.plan(study, variants, *records.read_images(records.TRAIN))


def content_of(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


def test_a_plan_names_every_run_variant_by_variant_in_the_order_of_the_seeds(workspace: Path, study: Params) -> None:
    runs = plan(study, "watched", "ridge")
    assert [run.name for run in runs] == ["watched seed 0", "watched seed 1", "ridge seed 0", "ridge seed 1"]
    for run in runs:
        np.testing.assert_array_equal(run.dev, np.load(records.dev_path(run.seed)))
    assert len({run.key for run in runs}) == 4


def test_other_dev_images_concern_only_the_runs_that_use_them(workspace: Path, study: Params) -> None:
    before = {run.name: run.key for run in plan(study, "plain", "watched", "ridge")}
    np.save(records.dev_path(0), np.arange(10))
    after = {run.name: run.key for run in plan(study, "plain", "watched", "ridge")}
    assert {name for name, key in after.items() if key != before[name]} == {"watched seed 0", "ridge seed 0"}


def test_a_changed_image_concerns_every_run(workspace: Path, study: Params) -> None:
    before = plan(study, "plain", "ridge")
    images, labels = records.read_images(records.TRAIN)
    images[7, 14, 14] ^= 1
    after = schedule.plan(study, ["plain", "ridge"], images, labels)
    assert not {run.key for run in before} & {run.key for run in after}


@pytest.mark.parametrize("damage", ["missing", "cut short"])
def test_dev_indices_that_cannot_be_read_are_refused_by_their_name(
    damage: str, workspace: Path, study: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = records.dev_path(1)
    content = path.read_bytes()
    path.unlink() if damage == "missing" else path.write_bytes(content[:90])
    monkeypatch.setattr(sys, "argv", ["train", "plain"])
    with pytest.raises(SystemExit) as end:
        stage.main()
    assert "data/dev/1.npy" in str(end.value.code)


def test_a_finished_run_is_known_and_its_facts_are_returned(evaluated: Path, study: Params) -> None:
    for run in plan(study, *study.variants):
        facts = schedule.finished(run)
        assert facts is not None
        assert (facts["variant"], facts["seed"], facts["key"]) == (run.variant, run.seed, run.key)


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def give_another_key(path: Path) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), "key": "another"}))


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        *[("model.keras", damage) for damage in (flip_a_byte, cut, empty, Path.unlink)],
        *[("run.json", damage) for damage in (give_another_key, cut, empty, Path.unlink)],
        *[("curves.csv", damage) for damage in (Path.unlink, empty, cut)],
    ],
)
def test_a_run_with_a_damaged_or_missing_file_is_not_finished(
    name: str, damage: Callable[[Path], None], evaluated: Path, study: Params
) -> None:
    run = plan(study, "watched")[0]
    assert schedule.finished(run)
    damage(records.run_path("watched", 0) / name)
    assert schedule.finished(run) is None


@pytest.mark.parametrize("content", ["[]", "null", '{"key": 1}', '{"digests": {}}', '"text"'])
def test_a_run_json_of_another_shape_is_not_finished(content: str, evaluated: Path, study: Params) -> None:
    (records.run_path("watched", 0) / "run.json").write_text(content)
    assert schedule.finished(plan(study, "watched")[0]) is None


def test_a_run_of_another_recipe_is_not_finished(evaluated: Path) -> None:
    changed = params.parse(STUDY.replace("dropout: 0.25", "dropout: 0.3"), "changed")
    finished = [run.variant for run in plan(changed, *changed.variants) if schedule.finished(run)]
    assert finished == ["ridge", "ridge", "random_features", "random_features"]


@pytest.fixture
def one_worker(monkeypatch: pytest.MonkeyPatch, tensorflow_ready: None) -> None:
    """Training in this process."""
    monkeypatch.setenv("STUDY_WORKERS", "1")


@pytest.fixture
def no_publisher(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stages.tracking.Publisher.publish", lambda *_: 0)


def test_a_stage_that_starts_again_trains_what_is_damaged_and_keeps_the_rest(
    evaluated: Path, study: Params, one_worker: None, no_publisher: None, capsys: pytest.CaptureFixture[str]
) -> None:
    before = content_of(evaluated / "models" / "plain")
    kept = (records.run_path("plain", 0) / "model.keras").stat()
    flip_a_byte(records.run_path("plain", 1) / "model.keras")
    (records.MODELS / "plain" / ".1.half").mkdir()
    stage.train(study, ["plain"])
    assert "2 runs, 1 of them finished before" in capsys.readouterr().out
    after = content_of(evaluated / "models" / "plain")
    assert before.keys() == after.keys()
    assert {name for name in after if after[name] != before[name]} == {"1/run.json"}  # the time it took
    assert (records.run_path("plain", 0) / "model.keras").stat().st_ino == kept.st_ino


def test_an_unknown_backend_is_refused_by_its_name(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "tensorfow")
    monkeypatch.setattr(sys, "argv", ["train", "plain"])
    with pytest.raises(SystemExit, match="tensorfow"):
        stage.main()


def test_what_a_kill_left_among_the_results_is_gone_after_the_next_start(
    evaluated: Path, study: Params, no_publisher: None
) -> None:
    left = records.curves_path("plain").with_name(".curves.csv.abcdef12")
    left.mkdir()
    (left / "curves.csv").write_text("seed,epo")
    stage.train(study, ["plain"])
    assert not left.exists()


def test_a_damaged_curve_is_mended_by_the_next_start(
    evaluated: Path, study: Params, one_worker: None, no_publisher: None
) -> None:
    before = records.curves_path("plain").read_bytes()
    cut(records.run_path("plain", 1) / "curves.csv")
    stage.train(study, ["plain"])
    assert records.curves_path("plain").read_bytes() == before


def test_two_more_seeds_train_two_more_runs_and_fewer_seeds_remove_theirs(
    evaluated: Path, one_worker: None, no_publisher: None, capsys: pytest.CaptureFixture[str]
) -> None:
    from stages.split.__main__ import split

    before = content_of(evaluated / "models" / "plain")
    split(0.2, [2, 0, 1])
    stage.train(params.parse(STUDY.replace("seeds: [0, 1]", "seeds: [2, 0, 1]"), "more"), ["plain"])
    assert "3 runs, 2 of them finished before" in capsys.readouterr().out
    after = content_of(evaluated / "models" / "plain")
    assert {name: after[name] for name in before} == before
    assert files.read_table(records.curves_path("plain"), records.CURVE_COLUMNS)["seed"].unique().tolist() == [
        2,
        0,
        1,
    ]
    stage.train(params.parse(STUDY.replace("seeds: [0, 1]", "seeds: [1]"), "fewer"), ["plain"])
    assert [entry.name for entry in (records.MODELS / "plain").iterdir()] == ["1"]
    assert files.read_table(records.curves_path("plain"), records.CURVE_COLUMNS)["seed"].unique().tolist() == [1]


def test_the_curves_of_a_variant_are_those_of_its_seeds_in_their_order(evaluated: Path, study: Params) -> None:
    for variant in study.variants:
        parts = [pd.read_csv(records.run_path(variant, seed) / "curves.csv") for seed in study.seeds]
        together = pd.read_csv(records.curves_path(variant))
        pd.testing.assert_frame_equal(together, pd.concat(parts, ignore_index=True))


def fake(run: Run, images: np.ndarray, labels: np.ndarray, progress: Path | None) -> Trained | Failed:
    """Trains nothing, and fails with seed 0."""
    if run.seed == 0:
        return Failed(run, "loss is nan")
    facts = {"seconds": 1.0, "epochs": 1, "dev_accuracy": 0.5}
    return Trained(run, {"model.keras": b"model", "curves.csv": b"", "run.json": b"{}"}, facts)


def test_a_run_that_fails_is_named_and_costs_no_other(
    workspace: Path, study: Params, digits: Digits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STUDY_WORKERS", "1")
    heard: list[str] = []
    with pytest.raises(StudyError) as error:
        schedule.train_all(
            plan(study, "plain", "ridge"),
            *digits,
            on_finish=lambda variant, seed: heard.append(f"{variant} seed {seed}"),
            train=fake,
        )
    assert heard == ["plain seed 1", "ridge seed 1"]
    assert "2 of 4 runs failed; the others are kept" in str(error.value)
    assert "plain seed 0: loss is nan" in str(error.value)
    assert sorted(path.name for path in records.MODELS.glob("*/*")) == ["1", "1"]
    assert (records.run_path("plain", 1) / "model.keras").read_bytes() == b"model"


def test_a_run_is_on_disk_before_anybody_hears_of_it(
    workspace: Path, study: Params, digits: Digits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STUDY_WORKERS", "1")
    runs = [run for run in plan(study, "plain", "ridge") if run.seed == 1]
    there: list[int] = []

    def look(variant: str, seed: int) -> None:
        there.append(len(list(records.MODELS.glob("*/1/run.json"))))

    schedule.train_all(runs, *digits, on_finish=look, train=fake)
    assert there == [1, 2]


def breaks_with_seed_0(run: Run, images: np.ndarray, labels: np.ndarray, progress: Path | None) -> Trained | Failed:
    if run.seed == 0:
        raise MemoryError("no room for 57 MB")
    return fake(run, images, labels, progress)


def test_an_error_that_nobody_foresaw_ends_one_run_and_the_others_go_on(
    workspace: Path, study: Params, digits: Digits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STUDY_WORKERS", "1")
    with pytest.raises(StudyError, match="plain seed 0: MemoryError: no room for 57 MB"):
        schedule.train_all(
            plan(study, "plain"), *digits, on_finish=lambda variant, seed: None, train=breaks_with_seed_0
        )
    assert [path.name for path in (records.MODELS / "plain").iterdir()] == ["1"]


def dies(run: Run, images: np.ndarray, labels: np.ndarray, progress: Path | None) -> NoReturn:
    os._exit(1)


def test_two_workers_have_the_results_of_one(
    evaluated: Path,
    study: Params,
    no_publisher: None,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """The runs of `evaluated` were trained in this process, one after the other; these in two, the other way round."""
    before = {name: content for name, content in content_of(records.MODELS).items() if not name.endswith("run.json")}
    reversed_seeds = params.parse(STUDY.replace("seeds: [0, 1]", "seeds: [1, 0]"), "reversed")
    variants = ["ridge", "random_features", "watched"]
    for variant in variants:
        for seed in (0, 1):
            (records.run_path(variant, seed) / "run.json").unlink()
    monkeypatch.setenv("STUDY_WORKERS", "2")
    stage.train(reversed_seeds, variants)
    said = capfd.readouterr()
    assert "6 runs, 0 of them finished before" in said.out
    assert "[6/6]" in said.err
    assert "dev accuracy 0." in said.err
    after = {name: content for name, content in content_of(records.MODELS).items() if not name.endswith("run.json")}
    assert after == before


def test_a_worker_that_is_killed_ends_in_a_message_that_says_what_to_do(
    workspace: Path, study: Params, digits: Digits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STUDY_WORKERS", "2")
    with pytest.raises(StudyError, match=r"a worker process died.*run `dvc repro`"):
        schedule.train_all(plan(study, "plain"), *digits, on_finish=lambda variant, seed: None, train=dies)


def test_the_number_of_workers_comes_from_the_environment_or_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUDY_WORKERS", "3")
    assert schedule.workers() == 3
    monkeypatch.delenv("STUDY_WORKERS")
    assert schedule.workers() == joblib.cpu_count()


@pytest.mark.parametrize("text", ["0", "-1", "two", "1.5", " 2"])
def test_a_number_of_workers_that_is_none_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUDY_WORKERS", text)
    with pytest.raises(StudyError, match=f"STUDY_WORKERS should be a whole number from 1, received '{text}'"):
        schedule.workers()


def test_the_longest_runs_of_the_study_start_first() -> None:
    from tests.conftest import ROOT

    real = params.load(ROOT / "params.yaml")
    names = ["linear", "mlp_reference", "cnn_reference", "mlp_tuned", "cnn_tuned"]
    runs = [Run(name, real.recipe(name).model_dump(), 0, None, {}, {}) for name in names]
    order = [run.variant for run in schedule.longest_first(runs, 60_000)]
    assert order[0] == "cnn_tuned"
    assert order.index("cnn_reference") < order.index("mlp_reference")
    assert order.index("mlp_tuned") < order.index("mlp_reference")
    assert order[-1] == "linear"


def test_an_unknown_variant_on_the_command_line_ends_with_those_there_are(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["train", "mlp_tunde"])
    with pytest.raises(SystemExit) as end:
        stage.main()
    assert end.value.code == (
        "error: unknown variant 'mlp_tunde': params.yaml has ridge, random_features, plain, watched"
    )
