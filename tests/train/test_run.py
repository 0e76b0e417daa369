import dataclasses
import gzip
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest

from stages import files, records
from stages.errors import StudyError
from stages.params import Params
from stages.train import run as run_module
from stages.train import schedule
from stages.train.run import Failed, Run, Trained, _meaning, code_digest, installed_versions, train_run

pytestmark = pytest.mark.usefixtures("tensorflow_ready")

Digits = tuple[np.ndarray, np.ndarray]


@pytest.fixture(scope="module")
def few(digits: Digits) -> Digits:
    return digits[0][:300], digits[1][:300]


def a_run(study: Params, variant: str, seed: int, **recipe: Any) -> Run:
    """A run on 300 images, of which every fifth is a dev image."""
    values = {**study.recipe(variant).model_dump(), **recipe}
    dev = np.arange(seed % 5, 300, 5) if values.get("dev_split", True) else None
    return Run(variant, values, seed, dev, {"data": "d", "code": "c"}, installed_versions())


def trained(run: Run, few: Digits) -> Trained:
    result = train_run(run, *few, None)
    assert isinstance(result, Trained)
    return result


def results(result: Trained) -> dict[str, bytes]:
    """The files that are the same for every training of a run: all but the times in run.json."""
    facts = {name: value for name, value in result.facts.items() if name not in ("started", "seconds")}
    return {**result.files, "run.json": files.json_bytes(facts)}


def test_a_run_trained_twice_has_the_same_bytes_whatever_was_trained_between(study: Params, few: Digits) -> None:
    recipe = {"filters": [3], "pool": [True], "conv_dropout": [0.25]}
    run = a_run(study, "watched", 0, **recipe)
    once = results(trained(run, few))
    trained(a_run(study, "plain", 5, initializer="glorot_normal", epochs=1), few)
    keras.utils.set_random_seed(123)
    np.random.seed(123)  # noqa: NPY002  # what a library might draw from
    assert results(trained(run, few)) == once


@pytest.mark.parametrize("variant", ["ridge", "random_features"])
def test_a_closed_form_run_trained_twice_has_the_same_bytes(variant: str, study: Params, few: Digits) -> None:
    run = a_run(study, variant, 1, grid_powers=[-14, 12], hidden_units=200)
    assert results(trained(run, few)) == results(trained(run, few))


def test_two_seeds_train_different_models(study: Params, few: Digits) -> None:
    one, other = (trained(a_run(study, "plain", seed, dropout=0.0), few) for seed in (0, 1))
    assert one.files["model.keras"] != other.files["model.keras"]
    assert one.facts["digests"]["model"] != other.facts["digests"]["model"]
    losses = [pd.read_csv(io.BytesIO(result.files["curves.csv"]))["loss"].tolist() for result in (one, other)]
    assert losses[0] != losses[1]


def test_the_date_does_not_reach_the_model_file(study: Params, few: Digits, monkeypatch: pytest.MonkeyPatch) -> None:
    model = keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(3, kernel_initializer="ones")])
    now = run_module.model_bytes(model)
    monkeypatch.setattr("time.time", lambda: 2_000_000_000.0)
    assert run_module.model_bytes(model) == now
    with zipfile.ZipFile(io.BytesIO(now)) as archive:
        assert "date" not in archive.read("metadata.json").decode()


def test_a_model_file_is_a_keras_model_that_gives_the_dev_scores_of_its_run(
    study: Params, few: Digits, tmp_path: Path
) -> None:
    run = a_run(study, "watched", 0)
    result = trained(run, few)
    path = tmp_path / "model.keras"
    path.write_bytes(result.files["model.keras"])
    model = keras.saving.load_model(path, compile=False)
    assert run.dev is not None
    outputs = np.asarray(model(few[0][run.dev]))
    truth = few[1][run.dev]
    assert result.facts["dev_accuracy"] == pytest.approx((outputs.argmax(axis=1) == truth).mean())
    loss = -np.log(outputs[np.arange(len(truth)), truth]).mean()
    assert result.facts["dev_loss"] == pytest.approx(loss, rel=1e-4)
    assert len(gzip.compress(result.files["model.keras"])) < 3 * 4 * model.count_params()  # no state of the optimizer


def test_run_json_and_the_curves_say_how_a_network_was_trained(study: Params, few: Digits) -> None:
    run = a_run(study, "watched", 1)
    result = trained(run, few)
    facts = json.loads(result.files["run.json"])
    assert facts == result.facts
    assert (facts["variant"], facts["seed"], facts["key"]) == ("watched", 1, run.key)
    assert facts["parameters"] == run.recipe
    assert facts["versions"].keys() == {"keras", "numpy", "scikit-learn", "scipy", "tensorflow"}
    assert facts["digests"] == {**run.digests, "model": files.digest(result.files["model.keras"])}
    assert facts["backend"] == "tensorflow"
    assert facts["seconds"] > 0
    curves = pd.read_csv(io.BytesIO(result.files["curves.csv"]))
    assert list(curves.columns) == records.CURVE_COLUMNS
    assert curves["seed"].tolist() == [1] * facts["epochs"]
    best = curves.set_index("epoch").loc[facts["best_epoch"]]
    assert best["val_loss"] == curves["val_loss"].min()
    np.testing.assert_allclose([best["val_loss"], best["val_accuracy"]], [facts["dev_loss"], facts["dev_accuracy"]])


def test_run_json_and_the_curves_say_how_a_closed_form_variant_was_fitted(study: Params, few: Digits) -> None:
    result = trained(a_run(study, "ridge", 1), few)
    assert result.facts["epochs"] is None
    curves = pd.read_csv(io.BytesIO(result.files["curves.csv"]))
    assert list(curves.columns) == records.SEARCH_COLUMNS
    assert set(curves["search"]) == {"grid", "mse", "accuracy"}
    for target in ("mse", "accuracy"):
        grid = curves[curves["search"] == "grid"]["alpha"]
        assert grid.min() < result.facts[f"alpha_{target}"] < grid.max()


@pytest.mark.parametrize(
    "change",
    [
        {"variant": "other"},
        {"seed": 1},
        {"recipe": {"family": "network", "dropout": 0.5}},
        {"digests": {"data": "other", "code": "c"}},
        {"digests": {"data": "d", "code": "other"}},
        {"versions": {"keras": "0"}},
    ],
)
def test_whatever_decides_a_result_changes_the_key(change: dict[str, Any], study: Params) -> None:
    run = a_run(study, "plain", 0)
    assert dataclasses.replace(run).key == run.key
    assert dataclasses.replace(run, **change).key != run.key


def test_a_worker_with_other_packages_is_refused_with_their_names(study: Params, few: Digits) -> None:
    run = a_run(study, "plain", 0)
    elsewhere = {**run.versions, "keras": "2.15.0", "jaxlib": "1.0"}
    result = train_run(dataclasses.replace(run, versions=elsewhere), *few, None)
    assert isinstance(result, Failed)
    assert f"keras {run.versions['keras']} here, 2.15.0 on the driver" in result.reason
    assert "jaxlib missing here, 1.0 on the driver" in result.reason
    assert "numpy" not in result.reason


def test_training_that_diverges_is_a_failed_run_not_a_crash(study: Params, few: Digits, tmp_path: Path) -> None:
    run = a_run(study, "plain", 0, learning_rate=1e37, epochs=5)
    result = train_run(run, *few, tmp_path / "progress")
    assert isinstance(result, Failed)
    assert "loss is nan" in result.reason
    assert "learning_rate" in result.reason
    assert not list(tmp_path.iterdir())


def test_a_backend_that_is_not_installed_is_refused_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    monkeypatch.setitem(run_module.RESULT_PACKAGES, "jax", ["a-package-that-is-not-there"])
    with pytest.raises(StudyError, match="the Keras backend jax is not installed"):
        installed_versions()


def test_the_progress_of_a_run_can_be_read_while_it_lasts(
    study: Params, few: Digits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    write_text = Path.write_text

    def noting(path: Path, text: str, *rest: Any, **named: Any) -> int:
        said.append(text)
        return write_text(path, text, *rest, **named)

    monkeypatch.setattr(Path, "write_text", noting)
    train_run(a_run(study, "plain", 0), *few, tmp_path / "progress")
    assert [text.split(",")[0] for text in said] == ["epoch 1", "epoch 2"]
    assert not list(tmp_path.iterdir())


SOURCE = '''
"""What this does."""

def scale(x):
    """Scale x."""
    # in half
    return x * 0.5

class Layer:
    """A layer."""
'''


@pytest.mark.parametrize(
    "edit",
    [
        ("# in half", "# by two"),
        ("    # in half\n", ""),
        ('"""Scale x."""', '"""Halve x."""'),
        ('    """Scale x."""\n', ""),
        ('"""What this does."""', ""),
        ('    """A layer."""', "    pass"),
        ("return x * 0.5", "return (x *\n        0.50)"),
    ],
)
def test_comments_docstrings_and_layout_do_not_make_trained_models_stale(edit: tuple[str, str]) -> None:
    assert edit[0] in SOURCE
    assert _meaning(SOURCE.replace(*edit)) == _meaning(SOURCE)


@pytest.mark.parametrize("edit", [("0.5", "0.6"), ("x * 0", "x / 0"), ("def scale(x)", "def scale(x=1)")])
def test_a_changed_constant_makes_trained_models_stale(edit: tuple[str, str]) -> None:
    assert edit[0] in SOURCE
    assert _meaning(SOURCE.replace(*edit)) != _meaning(SOURCE)


def test_the_code_of_every_module_that_decides_results_is_in_the_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    read_text = Path.read_text
    for family, changed in [(family, name) for family, names in run_module.RESULT_MODULES.items() for name in names]:
        before = code_digest(family)
        with monkeypatch.context() as patch:
            patch.setattr(
                Path,
                "read_text",
                lambda path, changed=changed: read_text(path) + ("\nX = 1\n" if path.stem == changed else ""),
            )
            assert code_digest(family) != before


def test_a_run_finished_elsewhere_is_known_by_its_key(study: Params, few: Digits, tmp_path: Path) -> None:
    """The whole way: what `train_run` returns and `write_folder` writes is what `finished` accepts."""
    run = a_run(study, "plain", 0)
    result = trained(run, few)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        files.write_folder(records.run_path("plain", 0), result.files)
        assert schedule.finished(run) == result.facts
