"""The champion of a small study over HTTP, from one server process for all tests of this file."""

import asyncio
import base64
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from http import HTTPStatus
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException
from selenium.webdriver import ActionChains, Chrome, Keys
from selenium.webdriver.common.actions.action_builder import ActionBuilder
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from many_seeds.errors import UserError
from stages.aggregate import summary
from stages.aggregate.runs import read_runs
from stages.study import files, paths
from stages.study.params import Params
from stages.study.records.results import read_results
from stages.study.records.splits import read_images
from stages.tracking import address
from tests import ROOT
from tests.conftest import STUDY
from tests.support.command import run_main
from tests.support.images import EXAMPLE, VALID, declared, drawn, saved
from tests.support.serving import (
    Server,
    evaluated_labels,
    invocation,
    labels_at_once,
    png,
    post,
    served_labels,
    serving,
)
from tools.serving import predict, prepare
from tools.serving import server as serve

JSON = {"Content-Type": "application/json"}
KEY = "5" * 64  # of the registered version


@pytest.fixture(scope="module")
def registered(
    evaluated_study: Path, empty_database: Path, study: Params, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """A study with its champion registered in a new MLflow database, as the current folder."""
    folder = tmp_path_factory.mktemp("registered") / "study"
    shutil.copytree(evaluated_study, folder)
    shutil.copy(empty_database, folder / address.DATABASE)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        files.write_json(paths.CHAMPION, summary.champion(read_runs(study), {"MLP": "watched"}))
        patch.setenv("MLFLOW_TRACKING_URI", address.tracking_uri())
        experiment = mlflow.create_experiment("digits", artifact_location=(folder / address.ARTIFACTS).as_uri())
        with mlflow.start_run(experiment_id=experiment):
            mlflow.pyfunc.log_model(name="champion", registered_model_name="digits", **serve.model_arguments())
        mlflow.MlflowClient().set_registered_model_alias("digits", serve.ALIAS, "1")
        mlflow.MlflowClient().set_model_version_tag("digits", "1", address.KEY, KEY)
        yield folder


@pytest.fixture(scope="module")
def server(registered: Path) -> Iterator[Server]:
    with serving(registered) as server:
        yield server


@pytest.fixture(scope="module")
def images(evaluated_study: Path) -> list[bytes]:
    """The 360 test images as PNG files."""
    return [png(image) for image in read_images(evaluated_study / paths.TEST)[0]]


def ask(server: Server, *images: bytes, ensemble: bool = False) -> tuple[int, Any]:
    with server.connect() as connection:
        return post(connection, invocation(images, ensemble=ensemble))


def send(server: Server, method: str, path: str, *request: Any, **options: Any) -> tuple[int, str]:
    """The status and the text of the response to any request."""
    with server.connect() as connection:
        connection.request(method, path, *request, **options)
        response = connection.getresponse()
        return response.status, response.read().decode()


def test_the_health_check_answers(server: Server) -> None:
    assert send(server, "GET", "/health")[0] == HTTPStatus.OK


def test_the_server_has_one_copy_of_the_model_which_its_next_start_uses_again(registered: Path, server: Server) -> None:
    version = mlflow.MlflowClient().get_model_version_by_alias("digits", serve.ALIAS)
    [copy] = serve.COPIES.iterdir()
    before = copy.stat().st_ino
    assert (copy / "MLmodel").exists()
    assert serve.downloaded(version) == copy
    assert copy.stat().st_ino == before
    version.tags.clear()
    with pytest.raises(UserError, match=r"version 1 of digits should be one that .* registered, received one without"):
        serve.downloaded(version)


@pytest.mark.parametrize(
    ("own", "scaling"),
    [("", None), (", size: [28, 28], resize: crop", "crop")],
)
def test_a_model_scales_pictures_as_its_study_did_also_in_the_folder_of_another_one(
    evaluated: Path, study: Params, monkeypatch: pytest.MonkeyPatch, own: str, scaling: str | None
) -> None:
    files.write_json(paths.CHAMPION, summary.champion(read_runs(study), {"MLP": "watched"}))
    data = "{name: mine, format: folders, train: own/mine" + own + "}"
    Path("params.yaml").write_text(STUDY.replace("{name: digits}", data), encoding="utf-8")
    arguments = serve.model_arguments()
    artifacts = {name: str(Path(path).resolve()) for name, path in arguments["artifacts"].items()}
    other = evaluated / "other"
    other.mkdir()
    monkeypatch.chdir(other)
    Path("params.yaml").write_text(
        STUDY.replace("{name: digits}", "{name: other, format: folders, train: own/other, size: [9, 9]}"),
        encoding="utf-8",
    )
    model = serve.ServedChampion()
    model.load_context(SimpleNamespace(artifacts=artifacts, model_config=arguments["model_config"]))
    assert model.facts()["scaling"] == scaling


TWO = [(-30, -40), (-10, -70), (25, -60), (30, -25), (-5, 20), (-40, 70), (45, 70)]  # from the centre, in pixels


@pytest.fixture
def page(server: Server, browser: Chrome) -> Chrome:
    browser.get_log("browser")  # discard the messages of the previous page
    browser.get(f"http://127.0.0.1:{server.port}/")
    eventually(browser, lambda page: page.find_element(By.ID, "canvas").is_displayed())
    return browser


def eventually(page: Chrome, look: Callable[[Chrome], Any]) -> Any:
    return WebDriverWait(page, 30, 0.05).until(look)


def shown(page: Chrome) -> tuple[str, str]:
    """The class of the longest bar, and that of the answer, as soon as there is one for the whole picture."""
    eventually(page, lambda page: page.find_elements(By.CSS_SELECTOR, "[aria-busy=false] #answer strong"))
    longest = page.find_element(By.CSS_SELECTOR, "#bars .first .name")
    return longest.text, page.find_element(By.CSS_SELECTOR, "#answer strong").text


def draw(page: Chrome, *strokes: Sequence[tuple[int, int]]) -> None:
    """Draw lines with the mouse on the canvas."""
    mouse, canvas = ActionBuilder(page, duration=0), page.find_element(By.ID, "canvas")
    for first, *rest in strokes:
        mouse.pointer_action.move_to(canvas, *first).pointer_down()
        for point in rest:
            mouse.pointer_action.move_to(canvas, *point)
        mouse.pointer_action.pointer_up()
    mouse.perform()


def test_a_drawn_2_is_read_as_2_by_the_model_that_the_page_names(page: Chrome, registered: Path) -> None:
    best, results = predict.read_champion(), read_results("watched")
    accuracy = 100 * results.accuracy[results.seeds.index(best["seed"])]
    said = page.find_element(By.ID, "model").text.replace("\N{NO-BREAK SPACE}", " ")
    assert said.startswith(f"MLP (watched, seed {best['seed']}) classifies {accuracy:.2f} % of 360 test images")
    assert said.endswith(f"Chosen by this rule: {best['rule']}.")
    draw(page, TWO)
    assert shown(page) == ("2", "2")
    assert page.find_element(By.ID, "seen").size["width"] > 100
    assert page.get_log("browser") == []  # the policy forbids nothing that the page needs


def test_lines_that_are_no_digit_are_refused_and_a_chosen_picture_replaces_them(page: Chrome) -> None:
    draw(page, [(-100, -60), (-100, 60)], [(100, -60), (100, 60)])
    problem = eventually(page, lambda page: page.find_element(By.ID, "problem").text)
    assert problem.startswith("Not classified: the image shows more than one drawing")
    page.find_element(By.ID, "file").send_keys(str(EXAMPLE))
    assert shown(page)[1] in "0123456789"
    assert not page.find_element(By.ID, "problem").is_displayed()
    assert not page.find_element(By.ID, "clear").is_enabled()


def test_a_digit_can_be_drawn_with_the_keyboard_and_the_ensemble_asked(page: Chrome) -> None:
    page.execute_script("arguments[0].focus()", page.find_element(By.ID, "canvas"))
    keys = ActionChains(page)
    keys.send_keys(Keys.ARROW_UP * 9 + " " + Keys.ARROW_DOWN * 18 + " ").perform()
    alone = shown(page)
    assert alone[0] == alone[1]
    values = page.find_element(By.ID, "bars").text
    page.find_elements(By.NAME, "ensemble")[1].click()
    eventually(page, lambda page: page.find_element(By.ID, "bars").text != values)
    keys.reset_actions()
    page.execute_script("arguments[0].focus()", page.find_element(By.ID, "canvas"))
    keys.send_keys(Keys.ESCAPE).perform()
    eventually(page, lambda page: page.find_element(By.ID, "answer").text == "Draw a digit, or choose a picture.")


def test_served_labels_are_those_of_the_evaluation(server: Server, images: list[bytes]) -> None:
    best, ensemble = evaluated_labels()
    np.testing.assert_array_equal(served_labels(server, images, ensemble=False), best)
    np.testing.assert_array_equal(served_labels(server, images, ensemble=True), ensemble)
    assert (best != ensemble).any()


@pytest.mark.parametrize("ensemble", [False, True])
def test_concurrent_clients_get_the_predictions_for_their_images(
    server: Server, images: list[bytes], ensemble: bool
) -> None:
    assert labels_at_once(server, images, clients=16, ensemble=ensemble) == evaluated_labels()[ensemble].tolist()


def test_a_response_has_the_class_and_all_probabilities(server: Server, images: list[bytes]) -> None:
    status, answer = ask(server, *images[:3])
    assert status == HTTPStatus.OK
    assert answer.keys() == {"predictions"}
    results, runs = read_results("watched"), paths.MODELS / "watched"
    best = predict.read_champion()
    champion = predict.Classifier(best["seed"], best["key"], results, runs, ensemble=False)
    form, names = predict.image_format(results, None), results.classes
    expected = champion.probabilities(np.stack([prepare.prepare(image, form) for image in images[:3]]))
    for row, probabilities in zip(answer["predictions"], expected, strict=True):
        assert row.keys() == {"label", "class", "probability", "probabilities"}
        assert row["class"] == names[row["label"]]
        np.testing.assert_allclose(row["probabilities"], probabilities, atol=1e-6)
        assert row["probability"] == max(row["probabilities"]) == row["probabilities"][row["label"]]


def test_the_request_in_the_docs_works(server: Server) -> None:
    page = (ROOT / "docs/serving.md").read_text(encoding="utf-8")
    block = re.search(r"```\n(curl .*?)```", page, re.DOTALL)
    assert block is not None
    command = block[1].replace(":5001/", f":{server.port}/")
    answer = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=True)
    assert json.loads(answer.stdout)["predictions"][0]["label"] in range(10)


def frame(*rows: Any, columns: object = ("image",), **more: Any) -> str:
    return json.dumps({"dataframe_split": {"columns": columns, "data": [[row] for row in rows]}, **more})


def in_base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


GOOD = in_base64(VALID)
BLANK = saved(drawn().point(lambda value: 255))
BAD_REQUESTS: dict[str, list[tuple[str | bytes, dict[str, str], str]]] = {
    "bad JSON": [
        ("{", JSON, "Invalid JSON"),
        (f'{{"dataframe_split": {GOOD}}}', JSON, "Invalid JSON"),
        (b"\xff\xfe{", JSON, "Invalid JSON"),
        ("[" * 100_000, JSON, "Invalid JSON: recursion limit"),
        (VALID, JSON, "Invalid JSON"),
    ],
    "an empty body": [("", JSON, "Invalid JSON"), (" ", JSON, "Invalid JSON")],
    "JSON of another form": [
        ("[]", JSON, "should be an object"),
        ("null", JSON, "should be an object"),
        (f'"{GOOD}"', JSON, "should be an object"),
        ("{}", JSON, "dataframe_split: Field required"),
        (json.dumps({"inputs": [GOOD]}), JSON, "dataframe_split: Field required; inputs: Extra"),
        (json.dumps({"dataframe_split": GOOD}), JSON, "dataframe_split: Input should be an object"),
        (json.dumps({"dataframe_split": {"columns": ["image"], "data": GOOD}}), JSON, "data: Input should be"),
        (frame(GOOD, params="vote"), JSON, "params: Input should be an object"),
        (frame(GOOD, params={"vote": "yes"}), JSON, "params.vote: Input should be a valid boolean"),
        (frame(GOOD, params={"seed": 1}), JSON, "params.seed: Extra inputs"),
    ],
    "a missing column": [
        (json.dumps({"dataframe_split": {"data": [[GOOD]]}}), JSON, "columns: Field required"),
        (frame(GOOD, columns=[]), JSON, "columns.0: Field required"),
    ],
    "a wrong column": [
        (frame(GOOD, columns=["picture"]), JSON, "columns.0: Input should be 'image'"),
        (frame(GOOD, columns=["image", "image"]), JSON, "columns: Tuple should have at most 1"),
        (frame(GOOD, columns="image"), JSON, "columns: Input should be a valid array"),
    ],
    "invalid base64": [
        (frame("five!"), JSON, "data.0.0: Value error, Only base64 data is allowed"),
        (frame(GOOD[:-1]), JSON, "data.0.0: Value error, Incorrect padding"),
        (frame(f"data:image/png;base64,{GOOD}"), JSON, "data.0.0: Value error, Only base64 data is allowed"),
        (frame(None), JSON, "data.0.0: Input should be"),
        (frame(5), JSON, "data.0.0: Input should be"),
        (frame([GOOD]), JSON, "data.0.0: Input should be"),
        (frame(GOOD, {"image": GOOD}), JSON, "data.1.0: Input should be"),
    ],
    "an empty image": [
        (frame(""), JSON, "row 0: the image is empty"),
        (frame(GOOD, ""), JSON, "row 1: the image is empty"),
        (frame(), JSON, "expected at least one image, received none"),
    ],
    "other files": [
        (frame(in_base64(b"a digit " * 1000)), JSON, "row 0: expected an image in PNG, JPEG"),
        (frame(GOOD, in_base64(saved(drawn(), "PDF")), GOOD), JSON, "row 1: expected an image in PNG, JPEG"),
        (frame(in_base64(BLANK)), JSON, "row 0: the image is blank"),
    ],
    "a truncated image": [
        (frame(in_base64(VALID[:100])), JSON, "row 0: the image is damaged or truncated"),
        (frame(in_base64(VALID[:-100])), JSON, "row 0: the image is damaged or truncated"),
        (frame(in_base64(saved(drawn(), "JPEG")[:-400])), JSON, "row 0: the image is damaged or truncated"),
    ],
    "too many pixels": [
        (frame(in_base64(declared(60_000, 60_000))), JSON, "row 0: the image should have at most 25 megapixels"),
        (frame(in_base64(declared(1, 2_000_000_000))), JSON, "row 0: the image should have at most 25 megapixels"),
        (frame(in_base64(saved(drawn().convert("1").resize((20_000, 9_000))))), JSON, "at most 25 megapixels"),
        (frame(in_base64(saved(drawn().convert("1").resize((6_000, 5_000))))), JSON, "at most 25 megapixels"),
    ],
    "too many bytes": [
        (frame(in_base64(VALID + bytes(11_000_000))), JSON, "row 0: the image should have at most 10 MB"),
        (frame(*[in_base64(VALID + bytes(5_000_000))] * 3), JSON, "expected at most 16,000,000 bytes"),
    ],
    "a wrong content type": [
        (frame(GOOD), {"Content-Type": "text/plain"}, "expected the header Content-Type: application/json"),
        (f"image\n{GOOD}", {"Content-Type": "text/csv"}, "expected the header Content-Type: application/json"),
        (VALID, {"Content-Type": "image/png"}, "expected the header Content-Type: application/json"),
        (VALID, {"Content-Type": "application/vnd.apache.parquet"}, "expected the header Content-Type"),
        (frame(GOOD), {}, "expected the header Content-Type: application/json"),
        (frame(GOOD), {"Content-Type": "application/json; charset=latin-1"}, "only supports UTF-8"),
    ],
}


@pytest.mark.parametrize("kind", BAD_REQUESTS)
def test_an_invalid_request_gets_a_short_error_with_the_reason(kind: str, server: Server) -> None:
    for body, headers, expected in BAD_REQUESTS[kind]:
        status, content = send(server, "POST", "/invocations", body, headers)
        error = json.loads(content)
        assert HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR, error
        assert error.keys() == {"error_code", "message"}
        assert error["error_code"] == HTTPStatus(status).name
        assert expected in error["message"]
        assert len(content) < 700
        assert GOOD[:20] not in content
        assert "Traceback" not in content
    assert ask(server, VALID)[0] == HTTPStatus.OK
    assert "Traceback" not in "".join(server.log)


def test_a_body_of_unknown_length_is_refused(server: Server) -> None:
    status, _ = send(server, "POST", "/invocations", iter([b"{"]), JSON, encode_chunked=True)
    assert status == HTTPStatus.LENGTH_REQUIRED


def test_requests_to_other_paths_get_an_error_of_the_same_form(server: Server) -> None:
    for method, path, status in [("GET", "/invocations", 405), ("POST", "/elsewhere", 404), ("GET", "/elsewhere", 404)]:
        answered, content = send(server, method, path)
        assert answered == status
        assert json.loads(content)["error_code"] == HTTPStatus(status).name


def test_interrupted_requests_do_not_affect_the_server(server: Server) -> None:
    head = b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 5000\r\n\r\n{"
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.sendall(head)
    assert ask(server, VALID)[0] == HTTPStatus.OK
    assert "Traceback" not in "".join(server.log)


def test_base64_may_have_line_breaks(server: Server) -> None:
    body = frame(base64.encodebytes(VALID).decode())
    assert send(server, "POST", "/invocations", body, JSON)[0] == HTTPStatus.OK


def test_an_internal_error_is_logged_and_not_sent_to_the_client(
    registered: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """In this process, where the model can be replaced."""
    monkeypatch.setattr(os, "environ", os.environ.copy())  # MLflow's server changes it
    model = mlflow.pyfunc.load_model(f"models:/digits@{serve.ALIAS}")
    model.unwrap_python_model()._champion = "broken"
    body = invocation([VALID])
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body}

    async def keep(message: Any) -> None:
        sent.append(message)

    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    scope = {"type": "http", "method": "POST", "path": "/invocations", "query_string": b"", "headers": headers}
    asyncio.run(serve.guarded_server(model)(scope, receive, keep))
    assert sent[0]["status"] == HTTPStatus.INTERNAL_SERVER_ERROR
    assert json.loads(sent[1]["body"]) == {
        "error_code": "INTERNAL_SERVER_ERROR",
        "message": "the server failed: see its log",
    }
    assert "'str' object has no attribute 'probabilities'" in caplog.text


def test_the_error_lists_the_invalid_images_of_a_batch(server: Server) -> None:
    _, answer = ask(server, VALID, b"five", VALID, b"")
    assert re.findall(r"row (\d+)", answer["message"]) == ["1", "3"]
    _, answer = ask(server, *[b""] * 9)
    assert re.findall(r"row (\d+)", answer["message"]) == ["0", "1", "2", "3", "4"]
    assert answer["message"].endswith("and 4 more")


def test_in_python_the_registered_model_predicts_like_the_server(
    registered: Path, server: Server, images: list[bytes]
) -> None:
    model = mlflow.pyfunc.load_model(f"models:/digits@{serve.ALIAS}")
    table = model.predict(pd.DataFrame({"image": images[:5]}), params={"vote": True})
    _, answer = ask(server, *images[:5], ensemble=True)
    assert table["label"].tolist() == [row["label"] for row in answer["predictions"]]
    with pytest.raises(MlflowException, match="row 1: the image is empty"):
        model.predict(pd.DataFrame({"image": [images[0], b""]}))


def test_the_registered_model_has_a_signature_and_requirements(registered: Path) -> None:
    uri = f"models:/digits@{serve.ALIAS}"
    info = mlflow.models.get_model_info(uri)
    assert info.signature.inputs.input_names() == ["image"]
    assert [parameter.name for parameter in info.signature.params] == ["vote"]
    folder = Path(mlflow.artifacts.download_artifacts(uri))
    needed = (folder / "requirements.txt").read_text().split()
    assert {line.partition("==")[0] for line in needed} >= {"keras", "mlflow", "numpy", "pillow", "scipy"}
    assert any(line.startswith("tensorflow") for line in needed)
    assert all("==" in line for line in needed)
    assert not [path for path in folder.rglob("*") if path.suffix in (".pkl", ".cloudpickle", ".joblib")]
    example = json.loads((folder / "serving_input_example.json").read_text())
    assert base64.b64decode(example["dataframe_split"]["data"][0][0]) == EXAMPLE.read_bytes()
    code = "import many_seeds, stages, tools; print(many_seeds.__file__, stages.__file__, tools.__file__, sep='\\n')"
    alone = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-c", code]
    found = subprocess.run(command, cwd=folder / "code", env=alone, capture_output=True, text=True, check=True).stdout
    assert [Path(line).parents[1] for line in found.splitlines()] == [folder / "code"] * 3


def test_mlflow_serves_the_registered_model_too(registered: Path, images: list[bytes]) -> None:
    """Without the validation of `tools.serving.server`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [Path(sys.executable).with_name("mlflow"), "models", "serve", "--env-manager", "local"]
    command += ["--model-uri", f"models:/digits@{serve.ALIAS}", "--host", "127.0.0.1", "--port", port]
    with serving(registered, [str(part) for part in command]) as plain:
        assert served_labels(plain, images, ensemble=False).tolist() == evaluated_labels()[0].tolist()
        status, answer = ask(plain, b"")
        assert status == HTTPStatus.BAD_REQUEST
        assert "row 0: the image is empty" in answer["message"]


def test_the_error_without_a_registered_champion_names_the_commands(
    workspace: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(empty_database, address.DATABASE)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)  # of the registered study
    answer = run_main(serve.main)
    assert answer.status == 1
    assert answer.err.startswith("error: there is no models:/digits@champion at sqlite:///")
    assert "with the models here (`dvc pull` or `dvc repro`), run `python -m stages.tracking`" in answer.err
