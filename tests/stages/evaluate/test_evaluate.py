import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest

from many_seeds.errors import UserError
from stages.aggregate.runs import read_runs
from stages.evaluate import __main__ as command
from stages.evaluate import run as run_module
from stages.evaluate import stage
from stages.evaluate.ensemble import Ensemble
from stages.evaluate.run import EvaluatedRun
from stages.study import files, params, paths
from stages.study.params import Params, Recipe
from stages.study.provenance import environments
from stages.study.provenance.environments import CERTIFIED, CERTIFIED_COLUMNS
from stages.study.provenance.identities import variant_identity
from stages.study.records import results
from stages.study.records.arrays import write_npz
from stages.study.records.models import read_model
from stages.study.records.results import CALIBRATION_COLUMNS, NOT_RECORDED, RUN_COLUMNS, read_results
from stages.study.records.splits import read_images
from tests.conftest import STUDY


def model_of(variant: str, seed: int) -> keras.Model:
    return keras.saving.load_model(paths.run_path(variant, seed) / "model.keras", compile=False)


@pytest.mark.parametrize("variant", ["watched", "ridge"])
def test_scores_and_predictions_are_those_of_the_models_on_the_test_images(variant: str, evaluated: Path) -> None:
    images, truth = read_images(paths.TEST)
    outputs = np.stack([model_of(variant, seed)(images).numpy() for seed in (0, 1)])
    table = read_results(variant).scores
    assert table["seed"].tolist() == [0, 1]
    np.testing.assert_allclose(table["test_accuracy"], (outputs.argmax(axis=2) == truth).mean(axis=1), rtol=1e-7)
    of_truth = outputs[:, np.arange(len(truth)), truth]
    one_hot = np.eye(10)[truth]
    losses = -np.log(of_truth).mean(axis=1) if variant == "watched" else ((outputs - one_hot) ** 2).mean(axis=(1, 2))
    np.testing.assert_allclose(table["test_loss"], losses, rtol=1e-5)

    arrays = files.read_arrays(paths.predictions_path(variant))
    np.testing.assert_array_equal(arrays["labels"], outputs.argmax(axis=2).astype(np.uint8), strict=True)
    np.testing.assert_array_equal(arrays["ensemble"], outputs.mean(axis=0).argmax(axis=1).astype(np.uint8), strict=True)
    np.testing.assert_array_equal(arrays["truth"], truth)
    np.testing.assert_array_equal(arrays["hardest_images"], images[arrays["hardest"]])


def test_a_table_of_scores_says_what_training_knew(evaluated: Path, study: Params) -> None:
    for variant, recipe in study.variants.items():
        table = read_results(variant).scores
        assert list(table.columns) == [*RUN_COLUMNS, "test_loss", "test_accuracy", *recipe.facts]
        for row in table.to_dict("records"):
            facts = files.read_json(paths.run_path(variant, row["seed"]) / "run.json")
            assert (row["key"], row["data"]) == (facts["key"], facts["digests"]["data"])
            for name in recipe.facts:
                expected = np.nan if facts[name] is None else facts[name]
                np.testing.assert_allclose(row[name], expected, rtol=1e-7)
    assert read_results("plain").scores["dev_loss"].isna().all()
    assert (read_results("ridge").scores["alpha_accuracy"] > 0).all()


def evaluate(variant: str, recipe: Recipe) -> None:
    """Evaluate a variant of the study in the current folder, with another recipe."""
    study = params.load()
    stage.evaluate(study.model_copy(update={"variants": {**study.variants, variant: recipe}}), variant)


def outputs_of(variant: str) -> list[Path]:
    makers = (paths.scores_path, paths.calibration_path, paths.predictions_path, paths.environments_path)
    return [make(variant) for make in makers]


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The models that are evaluated, in their order."""
    seen: list[str] = []

    def noting(run: Path, facts: dict[str, Any]) -> Any:
        seen.append(f"{run.parent.name} {run.name}")
        return read_model(run, facts)

    monkeypatch.setattr(run_module, "read_model", noting)
    return seen


def test_evaluating_again_looks_at_no_model_and_writes_the_same_bytes(
    evaluated: Path, study: Params, looked_at: list[str]
) -> None:
    for variant in ("watched", "plain", "ridge"):
        before = [path.read_bytes() for path in outputs_of(variant)]
        evaluate(variant, study.recipe(variant))
        assert looked_at == []
        assert [path.read_bytes() for path in outputs_of(variant)] == before


def test_predictions_with_an_array_of_an_earlier_version_keep_their_bytes(evaluated: Path, study: Params) -> None:
    """With other bytes, DVC would evaluate again, for which a clone has no models."""
    path = paths.predictions_path("ridge")
    write_npz(path, {**files.read_arrays(path), "code": np.array("digest")})
    before = path.read_bytes()
    evaluate("ridge", study.recipe("ridge"))
    assert path.read_bytes() == before


def without_image_digest(variant: str) -> None:
    """Write its predictions as an earlier version did."""
    arrays = files.read_arrays(paths.predictions_path(variant))
    del arrays["image_digest"]
    write_npz(paths.predictions_path(variant), arrays)


def test_predictions_without_a_digest_of_the_images_keep_their_bytes_unless_a_misclassified_image_changed(
    evaluated: Path, study: Params, looked_at: list[str]
) -> None:
    without_image_digest("plain")
    before = paths.predictions_path("plain").read_bytes()
    evaluate("plain", study.recipe("plain"))
    assert looked_at == []
    assert paths.predictions_path("plain").read_bytes() == before
    arrays, hardest = files.read_arrays(paths.TEST), files.read_arrays(paths.predictions_path("plain"))["hardest"]
    arrays["images"][hardest[0]] = 255 - arrays["images"][hardest[0]]
    files.write_arrays(paths.TEST, compressed=False, **arrays)
    evaluate("plain", study.recipe("plain"))
    assert looked_at == ["plain 0", "plain 1"]
    assert read_results("plain").image_digest == files.digest(arrays["images"])


def test_variants_that_were_evaluated_on_different_images_with_the_same_labels_are_not_compared(
    evaluated: Path, study: Params
) -> None:
    arrays = files.read_arrays(paths.TEST)
    arrays["images"][0] = 255 - arrays["images"][0]
    files.write_arrays(paths.TEST, compressed=False, **arrays)
    evaluate("plain", study.recipe("plain"))
    with pytest.raises(UserError, match="plain and watched were evaluated on different test sets: run `dvc repro`"):
        read_runs(study, ["plain", "watched"])
    without_image_digest("watched")
    assert list(read_runs(study, ["plain", "watched"])) == ["plain", "watched"]


def test_a_model_that_predicts_one_class_only_is_named_when_it_is_evaluated(
    evaluated: Path, study: Params, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in outputs_of("plain"):
        path.unlink()
    monkeypatch.setattr(
        run_module, "predict", lambda model, images: np.tile(np.eye(10, dtype=np.float32)[3], (len(images), 1))
    )
    evaluate("plain", study.recipe("plain"))
    warning = "warning: plain predicts one class only, 3 for every test image, with seeds 0, 1\n"
    assert capsys.readouterr().err == warning
    assert read_results("plain").predicts_one_class.tolist() == [True, True]
    evaluate("plain", study.recipe("plain"))  # nothing is evaluated again
    assert capsys.readouterr().err == ""


def test_results_without_models_can_be_evaluated_again(evaluated: Path, study: Params) -> None:
    """As in a clone that has metrics/ from git and no models."""
    before = [path.read_bytes() for path in outputs_of("watched")]
    shutil.rmtree(paths.MODELS)
    evaluate("watched", study.recipe("watched"))
    assert [path.read_bytes() for path in outputs_of("watched")] == before


@pytest.fixture
def copied(evaluated: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], Recipe]:
    """Give `ridge` so many seeds by copies of its two runs, the vote being of the first three; its recipe."""
    monkeypatch.setattr(results, "MEMBERS", 3)

    def copy(seeds: int) -> Recipe:
        for seed in range(2, seeds):
            if not paths.run_path("ridge", seed).exists():
                shutil.copytree(paths.run_path("ridge", seed % 2), paths.run_path("ridge", seed))
        return params.parse(STUDY.replace("seeds: 2", f"seeds: {seeds}"), "more").recipe("ridge")

    return copy


def test_more_seeds_than_vote_are_as_many_evaluations_and_leave_the_vote(
    copied: Callable[[int], Recipe], looked_at: list[str]
) -> None:
    evaluate("ridge", copied(3))
    before, vote = read_results("ridge").scores, files.read_arrays(paths.predictions_path("ridge"))["ensemble"]
    looked_at.clear()
    evaluate("ridge", copied(5))
    assert looked_at == ["ridge 3", "ridge 4"]
    after = read_results("ridge").scores
    assert after["seed"].tolist() == list(range(5))
    pd.testing.assert_frame_equal(after.head(3), before)
    arrays = files.read_arrays(paths.predictions_path("ridge"))
    np.testing.assert_array_equal(arrays["ensemble"], vote)
    np.testing.assert_array_equal(arrays["labels"][[2, 3, 4]], arrays["labels"][[0, 1, 0]])
    assert "weights" in arrays
    whole = [path.read_bytes() for path in outputs_of("ridge")]
    for path in outputs_of("ridge"):
        path.unlink()
    evaluate("ridge", copied(5))  # all at once: the same bytes
    assert [path.read_bytes() for path in outputs_of("ridge")] == whole
    evaluate("ridge", copied(4))
    assert read_results("ridge").scores["seed"].tolist() == list(range(4))


def test_a_seed_joins_the_vote_without_the_models_of_those_before_it(
    copied: Callable[[int], Recipe], looked_at: list[str]
) -> None:
    recipe = copied(3)
    evaluate("ridge", recipe)
    at_once = [path.read_bytes() for path in outputs_of("ridge")]
    evaluate("ridge", copied(2))
    for seed in (0, 1):
        shutil.rmtree(paths.run_path("ridge", seed))
    looked_at.clear()
    evaluate("ridge", recipe)
    assert looked_at == ["ridge 2"]
    assert [path.read_bytes() for path in outputs_of("ridge")] == at_once


def change_run(variant: str, seed: int, facts: dict[str, Any]) -> None:
    path = paths.run_path(variant, seed) / "run.json"
    files.write_json(path, files.read_json(path) | facts)


def rename_key(variant: str, seed: int) -> None:
    change_run(variant, seed, {"key": "of another run"})


@pytest.mark.parametrize("other", ["recipe", "code", "variant"])
def test_a_model_that_is_not_of_this_study_is_refused_and_costs_no_score(
    other: str, evaluated: Path, study: Params
) -> None:
    """As after a pull of somebody else's recipe and results, with one's own models still there."""
    before = [path.read_bytes() for path in outputs_of("ridge")]
    facts = files.read_json(paths.run_path("ridge", 1) / "run.json")
    changes: dict[str, dict[str, Any]] = {
        "recipe": {"parameters": {**facts["parameters"], "tolerance": 0.5}},
        "code": {"digests": {**facts["digests"], "code": "another"}},
        "variant": {"variant": "elm"},
    }
    change_run("ridge", 1, changes[other])
    with pytest.raises(UserError, match=r"models/ridge/1 holds a model of another recipe.*dvc repro -s train@ridge"):
        evaluate("ridge", study.recipe("ridge"))
    assert [path.read_bytes() for path in outputs_of("ridge")] == before


def test_runs_of_other_training_images_are_not_mixed(evaluated: Path, study: Params) -> None:
    facts = files.read_json(paths.run_path("ridge", 1) / "run.json")
    change_run("ridge", 1, {"key": "another", "digests": {**facts["digests"], "data": "another"}})
    with pytest.raises(UserError, match="the runs of ridge are of different training images"):
        evaluate("ridge", study.recipe("ridge"))


def test_a_run_that_was_trained_anew_is_evaluated_anew(copied: Callable[[int], Recipe], looked_at: list[str]) -> None:
    evaluate("ridge", copied(5))
    looked_at.clear()
    rename_key("ridge", 4)
    evaluate("ridge", copied(5))
    assert looked_at == ["ridge 4"]
    assert read_results("ridge").scores["key"].tolist()[4] == "of another run"
    looked_at.clear()
    rename_key("ridge", 1)
    evaluate("ridge", copied(5))
    assert sorted(looked_at) == ["ridge 0", "ridge 1", "ridge 2"]  # all that vote


def put_model(seed: int, of: int) -> str:
    """Give a run of `ridge` the model of another, as a training with other bits under the same key; its digest."""
    folder, other = paths.run_path("ridge", seed), paths.run_path("ridge", of)
    facts = files.read_json(folder / "run.json")
    digest: str = files.read_json(other / "run.json")["digests"]["model"]
    change_run("ridge", seed, {"digests": facts["digests"] | {"model": digest}})
    shutil.copy(other / "model.keras", folder / "model.keras")
    return digest


def test_a_model_with_other_bits_under_the_same_key_is_evaluated_anew(
    copied: Callable[[int], Recipe], looked_at: list[str]
) -> None:
    evaluate("ridge", copied(5))
    before = read_results("ridge").scores
    looked_at.clear()
    digest = put_model(4, of=1)
    evaluate("ridge", copied(5))
    assert looked_at == ["ridge 4"]
    after = read_results("ridge").scores
    assert after["key"].tolist() == before["key"].tolist()
    assert after["test_loss"][4] == before["test_loss"][1] != before["test_loss"][4]
    assert read_results("ridge").environments["model"][4] == digest


def forget_models(variant: str = "ridge") -> None:
    """As environments.csv is for results of version 1, of whose models no digest was recorded."""
    table = read_results(variant).environments.assign(model=NOT_RECORDED)
    files.write_table(paths.environments_path(variant), table)


@pytest.mark.parametrize("variant", ["plain", "random_features"])
def test_every_family_knows_again_what_it_evaluated(
    variant: str, evaluated: Path, study: Params, looked_at: list[str]
) -> None:
    before = [path.read_bytes() for path in outputs_of(variant)]
    forget_models(variant)
    evaluate(variant, study.recipe(variant))
    assert looked_at == [f"{variant} 0", f"{variant} 1"]  # each once
    assert [path.read_bytes() for path in outputs_of(variant)] == before


def test_a_model_that_was_not_recorded_and_has_the_same_scores_is_recorded_and_the_vote_kept(
    copied: Callable[[int], Recipe], looked_at: list[str]
) -> None:
    recipe = copied(5)
    evaluate("ridge", recipe)
    models = read_results("ridge").environments["model"].tolist()[:4]
    before = [path.read_bytes() for path in outputs_of("ridge")]
    forget_models()
    shutil.rmtree(paths.run_path("ridge", 4))
    looked_at.clear()
    evaluate("ridge", recipe)
    assert looked_at == [f"ridge {seed}" for seed in range(4)]  # each once
    recorded = read_results("ridge").environments["model"].tolist()
    assert recorded == [*models, NOT_RECORDED]
    assert [path.read_bytes() for path in outputs_of("ridge")][:3] == before[:3]
    looked_at.clear()
    evaluate("ridge", recipe)
    assert looked_at == []


def test_a_model_that_was_not_recorded_and_has_other_scores_is_evaluated_anew(
    copied: Callable[[int], Recipe], looked_at: list[str]
) -> None:
    evaluate("ridge", copied(5))
    before = read_results("ridge").scores["test_loss"]
    forget_models()
    put_model(4, of=1)
    evaluate("ridge", copied(5))
    after = read_results("ridge").scores["test_loss"]
    assert after.tolist() == [*before[:4], before[1]]


def test_rows_of_a_certified_environment_of_the_evaluation_are_kept_and_of_another_made_anew(
    evaluated: Path, study: Params, looked_at: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = [path.read_bytes() for path in outputs_of("plain")]
    recorded = read_results("plain").environments["evaluation"][0]
    monkeypatch.setattr(environments, "scoring_digest", lambda: "another")
    here = str(environments.installed("evaluate", "network"))
    row = (
        "plain",
        variant_identity(study.recipe("plain"), study),
        "evaluate",
        here,
        recorded,
        1,
        2,
        "a processor",
        "here",
        "f" * 40,
    )
    files.write_table(CERTIFIED, pd.DataFrame([row], columns=CERTIFIED_COLUMNS))
    evaluate("plain", study.recipe("plain"))
    assert looked_at == []
    assert [path.read_bytes() for path in outputs_of("plain")] == before
    evaluate("watched", study.recipe("watched"))
    assert looked_at == ["watched 0", "watched 1"]
    assert set(read_results("watched").environments["evaluation"]) == {here}


@pytest.mark.parametrize(
    "change", ["the code", "a test label", "a test image", "a damaged table", "damaged predictions"]
)
def test_whatever_makes_former_rows_unfit_evaluates_all_anew(
    change: str, evaluated: Path, study: Params, looked_at: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if change == "the code":
        monkeypatch.setattr(environments, "scoring_digest", lambda: "another")
    elif change.startswith("a test"):
        arrays = files.read_arrays(paths.TEST)
        if change == "a test label":
            arrays["labels"][0] = (arrays["labels"][0] + 1) % 10
        else:
            arrays["images"][0] = 255 - arrays["images"][0]
        files.write_arrays(paths.TEST, compressed=False, **arrays)
    elif change == "a damaged table":
        paths.scores_path("plain").write_bytes(paths.scores_path("plain").read_bytes()[:40])
    else:
        paths.predictions_path("plain").write_bytes(b"PK")
    evaluate("plain", study.recipe("plain"))
    assert looked_at == ["plain 0", "plain 1"]
    looked_at.clear()
    evaluate("plain", study.recipe("plain"))
    assert looked_at == []


def test_results_with_another_number_of_members_are_refused_until_they_are_evaluated_again(
    evaluated: Path, study: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An edit of `MEMBERS` makes no stage stale, but it decides the accuracy of the ensemble."""
    monkeypatch.setattr(results, "MEMBERS", 1)
    with pytest.raises(UserError) as error:
        read_results("plain")
    assert str(error.value) == (
        "metrics/runs/plain/predictions.npz has the ensemble of the first 2 seeds, but MEMBERS in "
        "stages/study/records/results.py asks for 1: `dvc repro --force --single-item evaluate@plain` evaluates again, "
        "which needs the models (`dvc pull`)"
    )
    evaluate("plain", study.recipe("plain"))
    assert read_results("plain").members == 1


def test_only_networks_have_a_calibration_and_only_the_linear_classifier_has_weights_to_show(evaluated: Path) -> None:
    calibration = files.read_table(paths.calibration_path("watched"), CALIBRATION_COLUMNS)
    assert calibration.groupby("seed")["images"].sum().to_dict() == {0: 360, 1: 360}
    assert files.read_table(paths.calibration_path("ridge"), CALIBRATION_COLUMNS).empty
    with_weights = {
        variant
        for variant in ("ridge", "random_features", "plain", "watched")
        if "weights" in files.read_arrays(paths.predictions_path(variant))
    }
    assert with_weights == {"ridge"}
    weights = files.read_arrays(paths.predictions_path("ridge"))["weights"]
    assert weights.shape == (10, 28, 28)
    kernel = model_of("ridge", 0).get_weights()[0]
    np.testing.assert_array_equal(weights[3].ravel(), kernel[:, 3])


def test_the_digits_are_learned(evaluated: Path) -> None:
    """Far above chance, so that images and labels are not out of step anywhere on the way."""
    accuracy = read_results("ridge").scores["test_accuracy"]
    assert accuracy.min() > 0.8


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1000] ^= 1
    path.write_bytes(bytes(content))


def test_a_damaged_model_is_refused_by_its_name_and_no_score_is_written(evaluated: Path, study: Params) -> None:
    paths.scores_path("plain").unlink()
    damage(paths.run_path("plain", 1) / "model.keras")
    with pytest.raises(UserError, match=r"models/plain/1/model\.keras is damaged.*dvc repro"):
        evaluate("plain", study.recipe("plain"))
    assert not paths.scores_path("plain").exists()


def test_a_missing_model_is_refused_by_its_name(evaluated: Path, study: Params) -> None:
    paths.scores_path("plain").unlink()
    (paths.run_path("plain", 1) / "model.keras").unlink()
    with pytest.raises(
        UserError, match=r"models/plain/1/model\.keras is missing: run .* `dvc repro -f -s train@plain`"
    ):
        evaluate("plain", study.recipe("plain"))


def test_a_missing_or_damaged_run_json_ends_the_command_with_its_name(
    evaluated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = paths.run_path("plain", 1) / "run.json"
    paths.scores_path("plain").unlink()
    path.unlink()
    monkeypatch.setattr(sys, "argv", ["evaluate", "plain"])
    for content in (None, "{", "{}", "[]"):
        if content is not None:
            path.write_text(content)
        with pytest.raises(SystemExit) as end:
            command.main()
        assert "models/plain/1/run.json" in str(end.value.code), content


@pytest.mark.parametrize("name", ["predictions.npz", "test.csv", "environments.csv", "calibration.csv"])
def test_a_damaged_result_is_restored_with_git_and_not_deleted(name: str, evaluated: Path) -> None:
    (paths.RUNS / "plain" / name).write_bytes(b"PK")
    with pytest.raises(
        UserError, match=rf"{name} (is damaged|should have) .*: restore it with git, or run `dvc repro evaluate@plain`"
    ):
        read_results("plain")


def test_the_hardest_of_many_test_images_are_images_that_are_misclassified(evaluated: Path) -> None:
    truth = np.zeros(70_000, np.uint8)
    labels, images = truth.copy(), np.zeros((len(truth), 1, 1), np.uint8)
    labels[[5, 66_000]] = 1
    images[[5, 66_000]] = 255
    run = EvaluatedRun({"seed": 0, "data": "d"}, labels, pd.DataFrame(columns=CALIBRATION_COLUMNS), {"seed": 0})
    found = stage.gather("plain", [run], images, truth, Ensemble(labels, 1, None), None)
    assert found.hardest[0] == 5
    np.testing.assert_array_equal(found.hardest_images, images[found.hardest])
    assert found.hardest_images[0] == 255


def test_with_all_each_variant_gets_the_scores_that_it_gets_alone(
    evaluated: Path, study: Params, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for variant in study.variants for path in outputs_of(variant)}
    for path in before:
        path.unlink()
    monkeypatch.setattr(sys, "argv", ["evaluate", "--all"])
    command.main()
    assert {path: path.read_bytes() for path in before} == before
    assert capsys.readouterr().out.splitlines() == [f"evaluated {variant}" for variant in study.variants]


def test_an_unknown_variant_on_the_command_line_ends_with_those_there_are(
    evaluated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["evaluate", "nobody"])
    with pytest.raises(SystemExit, match=r"unknown variant 'nobody'.*plain, watched"):
        command.main()
