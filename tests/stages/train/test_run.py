import dataclasses
import gc
import gzip
import io
import json
import math
import re
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest

from many_seeds.errors import UserError
from stages.recipes.network import Recipe as Network
from stages.recipes.ridge import Recipe as Ridge
from stages.recipes.shared.keras_recipe import KerasRecipe
from stages.recipes.shared.recipe import DivergedError, FitResult, training_indices
from stages.study import files, paths
from stages.study.params import Params
from stages.study.provenance import environments
from stages.study.provenance.environments import installed_versions
from stages.train.diverged import constant_model
from stages.train.plan import finished
from stages.train.run import Failed, Run, Trained, train_run
from tests.conftest import CLASSES
from tests.support.recipes import network

pytestmark = pytest.mark.usefixtures("tensorflow_ready")

Digits = tuple[np.ndarray, np.ndarray]


@pytest.fixture(scope="module")
def few(digits: Digits) -> Digits:
    return digits[0][:300], digits[1][:300]


def a_run(study: Params, variant: str, seed: int, **fields: Any) -> Run:
    """A run on 300 images, of which every fifth is in the validation split."""
    recipe = study.recipe(variant)
    recipe = type(recipe).model_validate({**recipe.model_dump(), **fields})
    validation = np.arange(seed % 5, 300, 5) if recipe.uses_validation else None
    return Run(
        variant,
        recipe,
        seed,
        CLASSES,
        validation,
        "processes",
        {"data": "d", "code": "c"},
        installed_versions("tensorflow"),
    )


def trained(run: Run, few: Digits) -> Trained:
    result = train_run(run, *few, None)
    assert isinstance(result, Trained)
    return result


@pytest.fixture(scope="module")
def watched(study: Params, few: Digits) -> Trained:
    """A network with early stopping."""
    return trained(a_run(study, "watched", 1), few)


@pytest.fixture(scope="module")
def plain(study: Params, few: Digits, tmp_path_factory: pytest.TempPathFactory) -> tuple[Trained, list[str]]:
    """A network without early stopping, and what was written to its file for the current epoch, which is gone."""
    progress, written, write_text = tmp_path_factory.mktemp("plain") / "progress", list[str](), Path.write_text

    def recording(path: Path, text: str, *rest: Any, **named: Any) -> int:
        if path == progress:
            written.append(text)
        return write_text(path, text, *rest, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "write_text", recording)
        result = train_run(a_run(study, "plain", 0), *few, progress)
    assert isinstance(result, Trained)
    assert not list(progress.parent.iterdir())
    return result, written


def test_a_model_file_is_a_keras_model_with_the_validation_scores_of_its_run(
    watched: Trained, few: Digits, tmp_path: Path
) -> None:
    run, result = watched.run, watched
    path = tmp_path / "model.keras"
    path.write_bytes(result.files["model.keras"])
    model = keras.saving.load_model(path, compile=False)
    assert run.validation is not None
    outputs = np.asarray(model(few[0][run.validation]))
    truth = few[1][run.validation]
    assert result.facts["dev_accuracy"] == pytest.approx((outputs.argmax(axis=1) == truth).mean())
    loss = -np.log(outputs[np.arange(len(truth)), truth]).mean()
    assert result.facts["dev_loss"] == pytest.approx(loss, rel=1e-4)
    assert len(gzip.compress(result.files["model.keras"])) < 3 * 4 * model.count_params()  # no state of the optimizer


def test_a_process_keeps_no_graph_of_its_finished_runs(study: Params, few: Digits) -> None:
    def kept() -> int:
        gc.collect()
        return sum(type(thing).__name__.endswith("FuncGraph") for thing in gc.get_objects())

    train_run(a_run(study, "plain", 2), *few, None)
    graphs = kept()
    for seed in (3, 4):
        train_run(a_run(study, "watched", seed), *few, None)
    assert kept() == graphs


def test_run_json_and_the_curves_describe_the_training_of_a_network(watched: Trained) -> None:
    run, result = watched.run, watched
    facts = json.loads(result.files["run.json"])
    assert facts == result.facts
    assert (facts["variant"], facts["seed"], facts["key"]) == ("watched", 1, run.key)
    assert facts["parameters"] == {name: v for name, v in run.recipe.model_dump().items() if name != "seeds"}
    assert facts["versions"].keys() == {"keras", "numpy", "scikit-learn", "scipy", "tensorflow"}
    assert facts["digests"] == {**run.digests, "model": files.digest(result.files["model.keras"])}
    assert facts["backend"] == "tensorflow"
    assert facts["seconds"] > 0
    curves = pd.read_csv(io.BytesIO(result.files["curves.csv"]))
    assert list(curves.columns) == ["seed", *run.recipe.curve]
    assert curves["seed"].tolist() == [1] * facts["epochs"]
    best = curves.set_index("epoch").loc[facts["best_epoch"]]
    assert best["val_loss"] == curves["val_loss"].min()
    np.testing.assert_allclose([best["val_loss"], best["val_accuracy"]], [facts["dev_loss"], facts["dev_accuracy"]])


def test_run_json_and_the_curves_describe_the_fit_of_a_closed_form_variant(study: Params, few: Digits) -> None:
    result = trained(a_run(study, "ridge", 1), few)
    assert "epochs" not in result.facts
    curves = pd.read_csv(io.BytesIO(result.files["curves.csv"]))
    assert list(curves.columns) == ["seed", "search", "alpha", "val_loss", "val_accuracy"]
    assert set(curves["search"]) == {"grid", "mse", "accuracy"}
    for target in ("mse", "accuracy"):
        grid = curves[curves["search"] == "grid"]["alpha"]
        assert grid.min() < result.facts[f"alpha_{target}"] < grid.max()


@pytest.mark.parametrize(
    "change",
    [
        {"variant": "other"},
        {"seed": 1},
        {"recipe": network(dropout=0.5)},
        {"recipe": network(average=0.9)},
        {"digests": {"data": "other", "code": "c"}},
        {"digests": {"data": "d", "code": "other"}},
        {"digests": {"data": "d", "code": "c", "dev": "d"}},
        {"versions": {"keras": "0"}},
    ],
)
def test_everything_that_decides_a_result_changes_the_key(change: dict[str, Any], study: Params) -> None:
    run = a_run(study, "plain", 0)
    assert dataclasses.replace(run).key == run.key
    assert dataclasses.replace(run, **change).key != run.key


def test_more_seeds_and_a_later_field_with_its_default_change_no_key(study: Params) -> None:
    run = a_run(study, "plain", 0)
    assert a_run(study, "plain", 0, seeds=20).key == run.key
    assert a_run(study, "plain", 0, padding="valid", augment=None, optimizer={"name": "adam"}).key == run.key


def test_a_recipe_that_cannot_be_trained_on_these_images_is_a_failed_run(study: Params, few: Digits) -> None:
    deep = {"filters": [2] * 4, "pool": [True] * 4, "conv_dropout": [0.0] * 4}
    result = train_run(a_run(study, "plain", 0, **deep), *few, None)
    assert isinstance(result, Failed)
    assert "leave nothing of 28x28 pixels" in result.reason


def test_an_argument_that_keras_ignores_is_refused(study: Params, few: Digits) -> None:
    result = train_run(a_run(study, "plain", 0, optimizer={"name": "adam", "decay": 0.1}), *few, None)
    assert isinstance(result, Failed)
    assert "`decay` is no longer supported" in result.reason


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            {"facts": {"dev_loss": 0.5}},
            "fit should return the facts .*dev_accuracy.* as plain numbers or None; received .*dev_loss",
        ),
        ({"facts": {"dev_loss": np.float32(0.5)}}, "received {'dev_loss': 'float32'"),
        ({"classes": CLASSES + 1}, r"outputs \[n, 10\]; received \[100, 11\]"),
    ],
    ids=["facts are missing", "facts are not plain numbers", "other outputs"],
)
def test_an_incomplete_result_of_a_custom_fit_is_a_failed_run(
    change: dict[str, Any], expected: str, study: Params, few: Digits, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fit(self: Ridge, images: np.ndarray, labels: np.ndarray, classes: int, **_: Any) -> FitResult:
        count = change.get("classes", classes)
        model = constant_model(images.shape[1:], np.full(count, 1 / count))
        return FitResult(model, [], change.get("facts", dict.fromkeys(self.facts)))

    monkeypatch.setattr(Ridge, "fit", fit)
    result = train_run(a_run(study, "ridge", 0), *few, None)
    assert isinstance(result, Failed)
    assert re.search(expected, result.reason), result.reason


def test_a_worker_with_other_packages_fails_its_runs(study: Params, few: Digits) -> None:
    run = a_run(study, "plain", 0)
    elsewhere = {**run.versions, "keras": "2.15.0", "jaxlib": "1.0"}
    result = train_run(dataclasses.replace(run, versions=elsewhere), *few, None)
    assert isinstance(result, Failed)
    assert f"keras {run.versions['keras']} there, 2.15.0 here" in result.reason
    assert "jaxlib missing there, 1.0 here" in result.reason
    assert "numpy" not in result.reason


def constant_outputs(result: Trained, few: Digits, tmp_path: Path) -> np.ndarray:
    """The outputs of a model, which are the same for every image."""
    (tmp_path / "model.keras").write_bytes(result.files["model.keras"])
    outputs = keras.saving.load_model(tmp_path / "model.keras", compile=False)(few[0][:5]).numpy()
    assert (outputs == outputs[0]).all()
    return outputs[0]


def test_a_run_that_diverges_is_trained_with_a_model_of_the_class_shares_and_the_curve_so_far(
    study: Params, few: Digits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rates(recipe: KerasRecipe) -> Any:
        return lambda epoch, steps: 0.001 if epoch == 0 else 1e37

    monkeypatch.setattr(KerasRecipe, "learning_rates", rates)
    run = a_run(study, "watched", 0, label_smoothing=0.1)
    result = train_run(run, *few, tmp_path / "progress")
    assert isinstance(result, Trained)
    assert not list(tmp_path.iterdir())
    chosen = training_indices(300, run.validation)
    shares = (np.bincount(few[1][chosen], minlength=10) + 1) / (len(chosen) + 10)
    outputs = constant_outputs(result, few, tmp_path)
    np.testing.assert_allclose(outputs, shares, rtol=1e-6)
    assert outputs.argmax() == np.bincount(few[1][chosen]).argmax()

    curve = pd.read_csv(io.BytesIO(result.files["curves.csv"]))
    assert curve["epoch"].tolist() == [0, 1]
    assert curve["loss"].isna().tolist() == [False, True]
    facts = json.loads(result.files["run.json"])
    reason = "loss is nan after epoch 1: training diverges; lower learning_rate (it was 1e+37)"
    assert facts["diverged"] == {"epoch": 1, "reason": reason}
    assert (facts["epochs"], facts["best_epoch"]) == (2, None)
    smoothed = keras.losses.CategoricalCrossentropy(label_smoothing=0.1)
    truth = few[1][run.validation]
    expected = float(smoothed(np.eye(10)[truth], np.tile(shares, (len(truth), 1))))
    assert facts["dev_loss"] == pytest.approx(expected, rel=1e-5)
    assert facts["dev_accuracy"] == (truth == outputs.argmax()).mean()


def test_a_run_that_diverges_in_its_last_step_has_no_infinite_score_either(
    study: Params, few: Digits, tmp_path: Path
) -> None:
    """The only loss of this run was computed before its only step."""
    result = trained(a_run(study, "plain", 0, learning_rate=1e30, epochs=1, batch_size=300), few)
    assert result.facts["diverged"] == {
        "epoch": 0,
        "reason": "the outputs of the trained model are not finite: training diverges",
    }
    assert np.isfinite(constant_outputs(result, few, tmp_path)).all()
    assert (result.facts["epochs"], result.facts["dev_loss"]) == (1, None)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_run_with_initial_weights_that_are_not_finite_diverges_before_its_training(
    value: float, study: Params, few: Digits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = Network.build

    def build_with(self: Network, *of: Any) -> Any:
        model = build(self, *of)
        model.weights[0].assign(keras.ops.full_like(model.weights[0], value))
        return model

    monkeypatch.setattr(Network, "build", build_with)
    result = trained(a_run(study, "watched", 0), few)
    assert result.facts["diverged"]["epoch"] == 0
    assert result.facts["diverged"]["reason"].endswith("kernel is not finite before training")
    assert (result.facts["epochs"], len(result.files["curves.csv"].splitlines())) == (1, 2)
    assert np.isfinite(constant_outputs(result, few, tmp_path)).all()


def test_a_family_with_its_own_fit_may_diverge(
    study: Params, few: Digits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fit(self: Ridge, images: np.ndarray, *_: Any, on_epoch: Any, **__: Any) -> FitResult:
        on_epoch(0, {"epoch": 0, "loss": 1.0, "val_loss": 2.0})
        raise DivergedError("the sum is infinite", {"epoch": 1, "val_loss": math.inf})

    monkeypatch.setattr(Ridge, "fit", fit)
    result, again = (trained(a_run(study, "ridge", 0), few) for _ in range(2))
    assert again.files["model.keras"] == result.files["model.keras"]
    assert result.facts["diverged"] == {"epoch": 1, "reason": "the sum is infinite"}
    assert result.facts["alpha_mse"] is None
    assert 0 < result.facts["dev_loss"] < 0.1  # a squared error
    curve = pd.read_csv(io.BytesIO(result.files["curves.csv"]))
    assert curve["val_loss"].fillna(-1).tolist() == [2.0, -1.0]
    constant_outputs(result, few, tmp_path)


class Forest:
    """A model that is not one of Keras."""


@pytest.mark.parametrize(
    ("row", "result", "reason"),
    [
        ({"loss": 1.0}, FitResult(Forest(), [], {}), "fit should return a keras.Model .* received Forest: .*decide"),
        ({"loss": 1.0}, Forest(), "fit should return a FitResult, received Forest"),
        ({"error": 1.0}, None, "on_epoch with a row that has a loss, received error"),
    ],
)
def test_what_an_own_fit_should_return_is_said(
    row: dict[str, float], result: Any, reason: str, study: Params, few: Digits, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fit(self: Ridge, *_: Any, on_epoch: Any, **__: Any) -> Any:
        on_epoch(0, row)
        return result

    monkeypatch.setattr(Ridge, "fit", fit)
    failed = train_run(a_run(study, "ridge", 0), *few, None)
    assert isinstance(failed, Failed)
    assert re.search(reason, failed.reason), failed.reason


@pytest.mark.parametrize("setting", ["KERAS_BACKEND", "STUDY_EXECUTOR"])
def test_the_error_for_a_missing_backend_names_it_and_the_setting_that_asks_for_it(
    setting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(setting, "set")
    monkeypatch.setitem(environments.BACKEND_PACKAGES, "jax", ["a-package-that-is-not-there"])
    with pytest.raises(UserError, match=f"the Keras backend jax is not installed: install it, or unset {setting}$"):
        installed_versions("jax")


def test_the_progress_of_a_run_can_be_read_during_training(plain: tuple[Trained, list[str]]) -> None:
    assert [text.split(",")[0] for text in plain[1]] == ["epoch 1", "epoch 2"]


def test_a_run_that_another_machine_finished_is_recognized_by_its_key(
    plain: tuple[Trained, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`finished` accepts what `train_run` returns and `write_folder` writes."""
    monkeypatch.chdir(tmp_path)
    files.write_folder(paths.run_path("plain", 0), plain[0].files)
    assert finished(plain[0].run) == plain[0].facts
