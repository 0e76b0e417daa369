"""What the study's models make of image files, from the command line."""

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
from stages.study.models import read_facts, read_model
from stages.study.params import Params
from stages.study.results import NOT_RECORDED, read_results
from stages.study.splits import read_images
from tests.support.images import EXAMPLE, saved
from tools.serving import predict


@pytest.fixture(params=["ridge", "watched"])
def champion(request: pytest.FixtureRequest, evaluated: Path, study: Params) -> str:
    """The variant that is made the champion of the study in the current folder."""
    variant: str = request.param
    files.write_json(paths.CHAMPION, summary.champion({variant: read_runs(study)[variant]}))
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


def test_a_model_that_was_never_evaluated_gives_no_answer(
    champion: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a training anew with other bits under the same key, on another kind of processor, say."""
    best = predict.read_champion()["seed"]
    own, other = (paths.run_path(champion, seed) for seed in (best, 1 - best))
    (own / "model.keras").write_bytes((other / "model.keras").read_bytes())
    facts, evaluated = files.read_json(own / "run.json"), files.read_json(own / "run.json")["digests"]["model"]
    received = files.read_json(other / "run.json")["digests"]["model"]
    files.write_json(own / "run.json", facts | {"digests": facts["digests"] | {"model": received}})
    expected = (
        rf"{own}/model\.keras should be the model that was evaluated, with SHA-256 {evaluated}; received {received}: "
        rf"run `dvc checkout` or `dvc pull`, .* or `dvc repro evaluate@{champion}`"
    )
    with pytest.raises(SystemExit, match=expected):
        run_main(monkeypatch, *image_files(tmp_path, 1))
    # Of results that were migrated without their models only the key is known.
    path = paths.environments_path(champion)
    files.write_table(path, read_results(champion).environments.assign(model=NOT_RECORDED))
    run_main(monkeypatch, *image_files(tmp_path, 1))
    path.unlink()
    with pytest.raises(SystemExit, match=rf"{path} is missing: `python -m tools\.migrate` writes it"):
        run_main(monkeypatch, *image_files(tmp_path, 1))


@pytest.mark.parametrize("vote", [False, True])
def test_files_get_the_labels_that_evaluate_found(
    champion: str, vote: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_main(monkeypatch, *image_files(tmp_path, 360), "--json", *(["--vote"] if vote else []))
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    predictions = files.read_arrays(paths.predictions_path(champion))
    best = predict.read_champion()["seed"]  # also the place of its row: the seeds are 0 and 1
    expected = predictions["ensemble"] if vote else predictions["labels"][best]
    assert [answer["label"] for answer in answers] == expected.tolist()
    assert [answer["image"] for answer in answers] == [str(tmp_path / f"{number}.png") for number in range(360)]
    for answer in answers:
        assert answer["probability"] == max(answer["probabilities"])
        assert min(answer["probabilities"]) >= 0
        assert sum(answer["probabilities"]) == pytest.approx(1, abs=1e-5)


def test_of_more_seeds_than_vote_the_first_are_asked_and_the_best_one_answers_alone(
    evaluated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one that votes, and another that is the best."""
    images = read_images(paths.TEST)[0][:50]
    results, runs = replace(read_results("watched"), members=1), paths.MODELS / "watched"
    champion = predict.Classifier(1, results.keys[1], results, runs, vote=True)
    for vote, seed in ((True, 0), (False, 1)):
        model = read_model(runs / str(seed), read_facts(runs / str(seed)))
        np.testing.assert_allclose(champion.probabilities(images, vote=vote), model(images), atol=1e-6)


def test_the_nearest_probabilities_are_those_worked_by_hand() -> None:
    outputs = np.array([[0.9, 0.5, -0.2], [0.2, 0.3, 0.5], [3.0, 0.0, 1.0], [0.1, 0.1, 0.1]], np.float32)
    # The first two exceed 1 by 0.4, which each gives back half of; the last three lack 0.7.
    expected = [[0.7, 0.3, 0.0], [0.2, 0.3, 0.5], [1.0, 0.0, 0.0], [1 / 3, 1 / 3, 1 / 3]]
    np.testing.assert_allclose(predict.nearest_probabilities(outputs), expected, atol=1e-6)


def test_a_bad_file_is_named_and_the_others_are_classified(
    champion: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = image_files(tmp_path, 2)
    (tmp_path / "notes.png").write_text("a digit")
    with pytest.raises(SystemExit, match="1"):
        run_main(monkeypatch, first, f"{tmp_path}/notes.png", f"{tmp_path}/none.png", str(tmp_path), second, second)
    said = capsys.readouterr()
    assert re.findall(r"error: (\S+): (\w+ \w+)", said.err) == [
        (f"{tmp_path}/notes.png", "expected an"),
        (f"{tmp_path}/none.png", "there is"),
        (f"{tmp_path}", "this is"),
    ]
    assert [line.split(":")[0] for line in said.out.splitlines()] == [first, second, second]
    assert all(re.search(r": \d \(-?\d+\.\d\d %\), then \d \(-?\d+\.\d\d %\)$", line) for line in said.out.splitlines())


@pytest.mark.parametrize("champion", ["watched"], indirect=True)
def test_the_command_says_the_digit_and_nothing_else(champion: str) -> None:
    """In a process of its own: TensorFlow greets whoever starts it."""
    command = [sys.executable, "-m", "tools.serving.predict", str(EXAMPLE)]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    assert answer.stderr == ""
    assert len(answer.stdout.splitlines()) == 1


def damage(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def another_key(path: Path) -> None:
    facts = files.read_json(path.with_name("run.json"))
    files.write_json(path.with_name("run.json"), {**facts, "key": "of another training"})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            Path.unlink,
            r"models/watched/0/model\.keras is missing: run `dvc pull` .*`dvc repro -f -s train@watched`",
        ),
        (damage, r"models/watched/0/model\.keras is damaged"),
        (another_key, r"models/watched/0 holds another run than the one that was evaluated: run `dvc repro`"),
    ],
)
@pytest.mark.parametrize("champion", ["watched"], indirect=True)
def test_models_that_are_not_those_of_the_results_are_refused(
    champion: str, change: Callable[[Path], None], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(paths.run_path("watched", 0) / "model.keras")
    with pytest.raises(SystemExit, match=said):
        run_main(monkeypatch, str(EXAMPLE), "--vote")


def test_without_a_champion_the_error_says_why(evaluated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match=r"metrics/champion\.json is missing: run `dvc repro`"):
        run_main(monkeypatch, str(EXAMPLE))
    files.write_json(paths.CHAMPION, None)
    with pytest.raises(SystemExit, match=r"names no model: no variant in params\.yaml has a dev split"):
        run_main(monkeypatch, str(EXAMPLE))


@pytest.mark.parametrize(("seed", "row"), [(0, 0), (1, 1)])
@pytest.mark.parametrize("champion", ["watched"], indirect=True)
def test_any_variant_and_seed_may_be_asked(
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


def test_of_another_variant_the_best_seed_by_dev_score_answers(evaluated: Path) -> None:
    table = read_results("watched").scores
    best = int(table["seed"][table["dev_accuracy"].idxmax()])
    assert predict.choose(read_results("watched"), None)[0] == best


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--variant", "nobody"], r"variant should be one that was evaluated \(.*watched.*\); received 'nobody'"),
        (["--variant", "former"], r"variant should be one that was evaluated \(.*watched.*\); received 'former'"),
        (["--seed", "7"], r"seed should be one of 0, 1 \(.*test\.csv\); received 7"),
    ],
)
@pytest.mark.parametrize("champion", ["watched"], indirect=True)
def test_a_variant_or_seed_that_is_not_there_is_named_beside_those_that_are(
    champion: str, arguments: list[str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(paths.RUNS / champion, paths.RUNS / "former")  # of a variant that params.yaml has no more
    with pytest.raises(SystemExit, match=said):
        run_main(monkeypatch, str(EXAMPLE), *arguments)


@pytest.mark.parametrize("champion", ["watched"], indirect=True)
def test_classes_are_called_by_their_names(
    champion: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = paths.predictions_path(champion)
    names = np.array([f"class {letter}" for letter in "abcdefghij"])
    files.write_arrays(path, compressed=True, **{**files.read_arrays(path), "classes": names})
    run_main(monkeypatch, *image_files(tmp_path, 3), "--json")
    for line in capsys.readouterr().out.splitlines():
        answer = json.loads(line)
        assert answer["class"] == names[answer["label"]]
    run_main(monkeypatch, *image_files(tmp_path, 1))
    assert re.search(r": class [a-j] \([\d.]+ %\), then class [a-j] \(", capsys.readouterr().out)
