import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from stages import files, records
from stages.errors import StudyError
from stages.evaluate import __main__ as stage
from stages.evaluate.__main__ import evaluate
from stages.params import Params


def model_of(variant: str, seed: int) -> keras.Model:
    return keras.saving.load_model(records.run_path(variant, seed) / "model.keras", compile=False)


@pytest.mark.parametrize("variant", ["watched", "ridge"])
def test_scores_and_predictions_are_those_of_the_models_on_the_test_images(variant: str, evaluated: Path) -> None:
    images, truth = records.read_images(records.TEST)
    outputs = np.stack([model_of(variant, seed).predict(images, verbose=0) for seed in (0, 1)])
    table = files.read_table(records.scores_path(variant), records.TEST_COLUMNS)
    assert table["seed"].tolist() == [0, 1]
    np.testing.assert_allclose(table["test_accuracy"], (outputs.argmax(axis=2) == truth).mean(axis=1), rtol=1e-7)
    of_truth = outputs[:, np.arange(len(truth)), truth]
    one_hot = np.eye(10)[truth]
    losses = -np.log(of_truth).mean(axis=1) if variant == "watched" else ((outputs - one_hot) ** 2).mean(axis=(1, 2))
    np.testing.assert_allclose(table["test_loss"], losses, rtol=1e-5)

    arrays = files.read_arrays(records.predictions_path(variant))
    np.testing.assert_array_equal(arrays["labels"], outputs.argmax(axis=2).astype(np.uint8), strict=True)
    np.testing.assert_array_equal(arrays["ensemble"], outputs.mean(axis=0).argmax(axis=1).astype(np.uint8), strict=True)
    np.testing.assert_array_equal(arrays["truth"], truth)
    np.testing.assert_array_equal(arrays["hardest_images"], images[arrays["hardest"]])


def test_a_table_of_scores_says_what_training_knew(evaluated: Path) -> None:
    table = files.read_table(records.scores_path("watched"), records.TEST_COLUMNS).set_index("seed")
    for seed in (0, 1):
        facts = files.read_json(records.run_path("watched", seed) / "run.json")
        row = table.loc[seed]
        assert (row["key"], row["data"]) == (facts["key"], facts["digests"]["data"])
        assert (row["epochs"], row["best_epoch"]) == (facts["epochs"], facts["best_epoch"])
        np.testing.assert_allclose([row["dev_loss"], row["dev_accuracy"]], [facts["dev_loss"], facts["dev_accuracy"]])
    linear = files.read_table(records.scores_path("ridge"), records.TEST_COLUMNS)
    assert linear["epochs"].isna().all()
    assert (linear["alpha_accuracy"] > 0).all()
    plain = files.read_table(records.scores_path("plain"), records.TEST_COLUMNS)
    assert plain["dev_loss"].isna().all()


def test_evaluating_again_writes_the_same_bytes(evaluated: Path, study: Params) -> None:
    paths = [make("watched") for make in (records.scores_path, records.calibration_path, records.predictions_path)]
    before = [path.read_bytes() for path in paths]
    evaluate("watched", study.seeds, is_network=True)
    assert [path.read_bytes() for path in paths] == before


def test_only_networks_have_a_calibration_and_only_the_linear_classifier_has_weights_to_show(evaluated: Path) -> None:
    calibration = files.read_table(records.calibration_path("watched"), records.CALIBRATION_COLUMNS)
    assert calibration.groupby("seed")["images"].sum().to_dict() == {0: 360, 1: 360}
    assert files.read_table(records.calibration_path("ridge"), records.CALIBRATION_COLUMNS).empty
    with_weights = {
        variant
        for variant in ("ridge", "random_features", "plain", "watched")
        if "weights" in files.read_arrays(records.predictions_path(variant))
    }
    assert with_weights == {"ridge"}
    weights = files.read_arrays(records.predictions_path("ridge"))["weights"]
    assert weights.shape == (10, 28, 28)
    kernel = model_of("ridge", 0).get_weights()[0]
    np.testing.assert_array_equal(weights[3].ravel(), kernel[:, 3])


def test_the_digits_are_learned(evaluated: Path) -> None:
    """Far above chance, so that images and labels are not out of step anywhere on the way."""
    accuracy = files.read_table(records.scores_path("ridge"), records.TEST_COLUMNS)["test_accuracy"]
    assert accuracy.min() > 0.8


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1000] ^= 1
    path.write_bytes(bytes(content))


def test_a_damaged_model_is_refused_by_its_name_and_no_score_is_written(evaluated: Path, study: Params) -> None:
    before = records.scores_path("plain").read_bytes()
    damage(records.run_path("plain", 1) / "model.keras")
    with pytest.raises(StudyError, match=r"models/plain/1/model\.keras is damaged.*dvc repro"):
        evaluate("plain", study.seeds, is_network=True)
    assert records.scores_path("plain").read_bytes() == before


def test_a_missing_model_is_refused_by_its_name(evaluated: Path, study: Params) -> None:
    (records.run_path("plain", 1) / "model.keras").unlink()
    with pytest.raises(StudyError, match=r"models/plain/1/model\.keras is missing: run .* `dvc repro`"):
        evaluate("plain", study.seeds, is_network=True)


@pytest.mark.parametrize("content", [None, "{", "{}", "[]"])
def test_a_missing_or_damaged_run_json_ends_the_command_with_its_name(
    content: str | None, evaluated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = records.run_path("plain", 1) / "run.json"
    path.unlink()
    if content is not None:
        path.write_text(content)
    monkeypatch.setattr(sys, "argv", ["evaluate", "plain"])
    with pytest.raises(SystemExit) as end:
        stage.main()
    assert "models/plain/1/run.json" in str(end.value.code)


def test_an_unknown_variant_on_the_command_line_ends_with_those_there_are(
    evaluated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["evaluate", "nobody"])
    with pytest.raises(SystemExit, match=r"unknown variant 'nobody'.*plain, watched"):
        stage.main()
