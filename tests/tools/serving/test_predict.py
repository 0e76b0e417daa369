"""Classification of image files on the command line."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stages.aggregate import summary
from stages.aggregate.runs import read_runs
from stages.study import files, paths
from stages.study.params import Params
from stages.study.records.models import read_facts, read_model
from stages.study.records.results import NOT_RECORDED, read_results
from stages.study.records.splits import read_images
from tests.support.images import EXAMPLE, saved
from tools.serving import predict, prepare


@pytest.fixture(params=["ridge", "watched"])
def champion(request: pytest.FixtureRequest, evaluated: Path, study: Params) -> str:
    """The variant that is made the champion of the study in the current folder."""
    variant: str = request.param
    files.write_json(paths.CHAMPION, summary.champion(read_runs(study), {"named": variant}))
    return variant


def image_files(folder: Path, count: int) -> list[str]:
    """The first test images as PNG files."""
    names = []
    for number, image in enumerate(read_images(paths.TEST)[0][:count]):
        path = folder / f"{number}.png"
        path.write_bytes(saved(Image.fromarray(image)))
        names.append(str(path))
    return names


def run_main(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["predict", *arguments])
    predict.main()


@pytest.mark.parametrize("other", [{"key": "of a run that was replaced"}, {"seed": 7}])
def test_a_champion_of_other_runs_than_those_evaluated_is_refused(
    champion: str, other: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files.write_json(paths.CHAMPION, files.read_json(paths.CHAMPION) | other)
    with pytest.raises(SystemExit, match=r"champion\.json names seed \d of other runs than .*test\.csv has: run `dvc"):
        run_main(monkeypatch, *image_files(tmp_path, 1))


def test_predictions_of_a_model_of_a_diverged_run_have_a_warning(evaluated: Path) -> None:
    results = read_results("plain")
    results = replace(results, scores=results.scores.assign(diverged=[None, 3.0]))
    assert predict.diverged_warning(results, 0, ensemble=False) == ""
    for seed, ensemble in ((1, False), (0, True)):
        warning = predict.diverged_warning(results, seed, ensemble=ensemble)
        assert warning == "seed 1 of plain diverged: predictions of its model are the same for every image"


def test_a_model_that_was_not_evaluated_is_refused(
    champion: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after training with other bits and the same key, for example on another kind of processor."""
    best = predict.read_champion()["seed"]
    chosen, other = (paths.run_path(champion, seed) for seed in (best, 1 - best))
    (chosen / "model.keras").write_bytes((other / "model.keras").read_bytes())
    facts, evaluated = files.read_json(chosen / "run.json"), files.read_json(chosen / "run.json")["digests"]["model"]
    received = files.read_json(other / "run.json")["digests"]["model"]
    files.write_json(chosen / "run.json", facts | {"digests": facts["digests"] | {"model": received}})
    expected = (
        rf"{chosen}/model\.keras should be the model that was evaluated, with SHA-256 {evaluated}; received "
        rf"{received}: run `dvc checkout` or `dvc pull` to restore .* or `dvc repro evaluate@{champion}` to evaluate"
    )
    with pytest.raises(SystemExit, match=expected):
        run_main(monkeypatch, *image_files(tmp_path, 1))
    # Results that were migrated without their models have only the key.
    path = paths.environments_path(champion)
    files.write_table(path, read_results(champion).environments.assign(model=NOT_RECORDED))
    run_main(monkeypatch, *image_files(tmp_path, 1))
    path.unlink()
    with pytest.raises(SystemExit, match=rf"{path} is missing: `python -m tools\.migrate` writes it"):
        run_main(monkeypatch, *image_files(tmp_path, 1))


@pytest.mark.parametrize("option", ["", "--vote", "--ensemble"])
def test_files_get_the_labels_of_the_evaluation(
    champion: str, option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_main(monkeypatch, *image_files(tmp_path, 360), "--json", *filter(None, [option]))
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    predictions = files.read_arrays(paths.predictions_path(champion))
    best = predict.read_champion()["seed"]  # the index of its row, too: the seeds are 0 and 1
    expected = predictions["ensemble"] if option else predictions["labels"][best]
    assert [row["label"] for row in rows] == expected.tolist()
    assert [row["image"] for row in rows] == [str(tmp_path / f"{number}.png") for number in range(360)]
    for row in rows:
        assert row["probability"] == max(row["probabilities"])
        assert min(row["probabilities"]) >= 0
        assert sum(row["probabilities"]) == pytest.approx(1, abs=1e-5)


def test_the_ensemble_has_the_first_seeds_and_may_lack_the_best_one(
    evaluated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With an ensemble of seed 0, and seed 1 as the best one."""
    images = read_images(paths.TEST)[0][:50]
    results, runs = replace(read_results("watched"), members=1), paths.MODELS / "watched"
    champion = predict.Classifier(1, results.keys[1], results, runs, ensemble=True)
    for ensemble, seed in ((True, 0), (False, 1)):
        model = read_model(runs / str(seed), read_facts(runs / str(seed)))
        np.testing.assert_allclose(champion.probabilities(images, ensemble=ensemble), model(images), atol=1e-6)


def test_the_nearest_probabilities_are_those_worked_by_hand() -> None:
    outputs = np.array([[0.9, 0.5, -0.2], [0.2, 0.3, 0.5], [3.0, 0.0, 1.0], [0.1, 0.1, 0.1]], np.float32)
    # The two largest of the first row exceed 1 by 0.4, so each loses 0.2; those of the last row gain 0.7 / 3 each.
    expected = [[0.7, 0.3, 0.0], [0.2, 0.3, 0.5], [1.0, 0.0, 0.0], [1 / 3, 1 / 3, 1 / 3]]
    np.testing.assert_allclose(predict.nearest_probabilities(outputs), expected, atol=1e-6)


def test_an_invalid_file_is_named_and_the_others_are_classified(
    champion: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = image_files(tmp_path, 2)
    (tmp_path / "notes.png").write_text("a digit")
    with pytest.raises(SystemExit, match="1"):
        run_main(monkeypatch, first, f"{tmp_path}/notes.png", f"{tmp_path}/none.png", str(tmp_path), second, second)
    printed = capsys.readouterr()
    assert re.findall(r"error: (\S+): (\w+ \w+)", printed.err) == [
        (f"{tmp_path}/notes.png", "expected an"),
        (f"{tmp_path}/none.png", "no such"),
        (f"{tmp_path}", "expected an"),
    ]
    assert [line.split(":")[0] for line in printed.out.splitlines()] == [first, second, second]
    assert all(
        re.search(r": \d \(-?\d+\.\d\d %\), then \d \(-?\d+\.\d\d %\)$", line) for line in printed.out.splitlines()
    )


@pytest.mark.parametrize("champion", ["watched"], indirect=True)
def test_a_picture_that_fails_in_an_unforeseen_way_is_named_and_the_others_are_classified(
    champion: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    decode, pictures = prepare.pictures.decode, image_files(tmp_path, 3)
    singular = Path(pictures[1]).read_bytes()

    def fail_once(content: bytes, side: int) -> Image.Image:
        if content == singular:
            raise np.linalg.LinAlgError("Singular matrix")
        return decode(content, side)

    monkeypatch.setattr(prepare.pictures, "decode", fail_once)
    with pytest.raises(SystemExit, match="1"):
        run_main(monkeypatch, *pictures)
    printed = capsys.readouterr()
    assert f"error: {pictures[1]}: the image can't be processed (LinAlgError: Singular matrix): save" in printed.err
    assert [line.split(":")[0] for line in printed.out.splitlines()] == [pictures[0], pictures[2]]


@pytest.mark.parametrize("champion", ["watched"], indirect=True)
def test_the_command_prints_the_class_and_beside_it_which_model_was_chosen_how(champion: str) -> None:
    """In a new process, in which TensorFlow would log its start."""
    command = [sys.executable, "-m", "tools.serving.predict", str(EXAMPLE)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    seed, rule = (predict.read_champion()[name] for name in ("seed", "rule"))
    assert done.stderr == f"model: named (watched, seed {seed})\nchosen: {rule}\n"
    assert rule == "the approach with the best mean validation accuracy; its best seed by it"
    assert len(done.stdout.splitlines()) == 1


def damage(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def another_key(path: Path) -> None:
    facts = files.read_json(path.with_name("run.json"))
    files.write_json(path.with_name("run.json"), {**facts, "key": "of another training"})


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            Path.unlink,
            r"models/watched/0/model\.keras is missing: run `dvc pull` .*`dvc repro -f -s train@watched`",
        ),
        (damage, r"models/watched/0/model\.keras is damaged"),
        (
            another_key,
            r"models/watched/0 should have the run that was evaluated, received another run: run `dvc repro`",
        ),
    ],
)
@pytest.mark.parametrize("champion", ["watched"], indirect=True)
def test_other_models_than_those_of_the_results_are_refused(
    champion: str, change: Callable[[Path], None], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(paths.run_path("watched", 0) / "model.keras")
    with pytest.raises(SystemExit, match=expected):
        run_main(monkeypatch, str(EXAMPLE), "--ensemble")


def test_without_a_champion_the_error_has_the_reason(evaluated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match=r"metrics/champion\.json is missing: run `dvc repro`"):
        run_main(monkeypatch, str(EXAMPLE))
    files.write_json(paths.CHAMPION, None)
    with pytest.raises(SystemExit, match=r"has no champion: no approach in params\.yaml has a validation split"):
        run_main(monkeypatch, str(EXAMPLE))


@pytest.mark.parametrize(("seed", "row"), [(0, 0), (1, 1)])
@pytest.mark.parametrize("champion", ["watched"], indirect=True)
def test_a_variant_and_a_seed_can_be_selected(
    champion: str,
    seed: int,
    row: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run_main(monkeypatch, *image_files(tmp_path, 90), "--json", "--variant", "ridge", "--seed", str(seed))
    labels = [json.loads(line)["label"] for line in capsys.readouterr().out.splitlines()]
    assert labels == files.read_arrays(paths.predictions_path("ridge"))["labels"][row][:90].tolist()


def test_the_default_seed_of_a_variant_has_the_best_validation_accuracy(evaluated: Path) -> None:
    table = read_results("watched").scores
    best = int(table["seed"][table["dev_accuracy"].idxmax()])
    assert predict.choose(read_results("watched"), None)[0] == best


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--variant", "unknown"], r"variant should be one that was evaluated \(.*watched.*\); received 'unknown'"),
        (["--variant", "removed"], r"variant should be one that was evaluated \(.*watched.*\); received 'removed'"),
        (["--seed", "7"], r"seed should be one of 0, 1 \(.*test\.csv\); received 7"),
    ],
)
@pytest.mark.parametrize("champion", ["watched"], indirect=True)
def test_the_error_for_an_unknown_variant_or_seed_lists_the_valid_ones(
    champion: str, arguments: list[str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(paths.RUNS / champion, paths.RUNS / "removed")  # a variant that params.yaml does not have any more
    with pytest.raises(SystemExit, match=expected):
        run_main(monkeypatch, str(EXAMPLE), *arguments)


@pytest.mark.parametrize("champion", ["watched"], indirect=True)
def test_classes_are_printed_by_name(
    champion: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = paths.predictions_path(champion)
    names = np.array([f"class {letter}" for letter in "abcdefghij"])
    files.write_arrays(path, compressed=True, **{**files.read_arrays(path), "classes": names})
    run_main(monkeypatch, *image_files(tmp_path, 3), "--json")
    for line in capsys.readouterr().out.splitlines():
        row = json.loads(line)
        assert row["class"] == names[row["label"]]
    run_main(monkeypatch, *image_files(tmp_path, 1))
    assert re.search(r": class [a-j] \([\d.]+ %\), then class [a-j] \(", capsys.readouterr().out)
