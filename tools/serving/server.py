"""The study's best model behind HTTP: `python -m tools.serving.server`.

It runs MLflow's scoring server on the registered model.

MLflow keeps a copy of this file and of the packages that it imports with the model ("models from code"), and that copy
is what is served.
"""

import base64
import contextlib
import json
import logging
import os
import sys
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, Literal

import mlflow
import numpy as np
import pandas as pd
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature, set_model
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc import PythonModel, scoring_server
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
from mlflow.types.schema import Array
from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError
from starlette.requests import ClientDisconnect

import many_seeds
import stages.recipes
import stages.study
import tools
from many_seeds import console
from many_seeds.errors import UserError
from stages.study import params, paths
from stages.study.results import find_results
from stages.tracking import address
from tools.serving import predict, prepare

ALIAS = "champion"
EXAMPLE = Path(__file__).with_name("example.png")
# The packages that MLflow copies beside the model.
# The packages that are copied with the model, and the folders of them that a request uses.
CODE = [Path(module.__file__).resolve().parent for module in (many_seeds, stages, tools) if module.__file__]
USED = [Path(__file__).parent, Path(stages.study.__file__).parent, Path(stages.recipes.__file__).parent]
BODY_LIMIT = 16_000_000  # bytes of one request: an image of pictures.BYTES_LIMIT in base64, and room around it
CONNECTION_LIMIT = 64  # at once; with the limit above it bounds the memory that requests can take
MESSAGE_LIMIT = 500  # characters of an error message
ENVIRONMENT = {
    **address.ENVIRONMENT,
    # One thread within an operation, as in evaluate: the requests run side by side.
    **{"TF_NUM_INTRAOP_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "2"},
}
SHOWN_ERRORS = 5  # of one request, in a message


class ServedChampion(PythonModel):
    def load_context(self, context: Any) -> None:
        files = {name: Path(path) for name, path in context.artifacts.items()}
        best = predict.read_champion(files["champion"])
        results = find_results(best["variant"], files[paths.scores_path("").name].parent)
        if results is None:
            raise UserError(f"the model has no results of {best['variant']}: register it again")
        self._champion = predict.Classifier(best["seed"], best["key"], results, files["runs"], vote=True)
        self._format, self._classes = predict.image_format(results), results.classes
        # The first call with one image and the first with several compile a model: not on a user's time.
        for count in (1, 2):
            for vote in (False, True):
                self._champion.probabilities(np.zeros((count, *self._format.shape), np.uint8), vote=vote)

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Classify the image files in the column `image`.

        A bad image fails the whole call: a row without an answer could be taken for one with, and whoever sent the
        others knows from the error which to leave out.

        Returns:
            A row for each image: its label, the name of that class, its probability, the probabilities of all classes.
        """
        images, refused = [], []
        for row, content in enumerate(model_input["image"]):
            try:
                images.append(prepare.prepare(content, self._format))
            except UserError as error:
                refused.append(f"row {row}: {error}")
        if refused or not images:
            shown = refused[:SHOWN_ERRORS] or ["there is no image"]
            more = [f"and {len(refused) - SHOWN_ERRORS} more"] if len(refused) > SHOWN_ERRORS else []
            raise MlflowException("; ".join(shown + more), INVALID_PARAMETER_VALUE)
        rows = self._champion.probabilities(np.stack(images), vote=bool(params and params["vote"]))
        labels = rows.argmax(axis=1)
        names = [self._classes[label] for label in labels]
        return pd.DataFrame(
            {"label": labels, "class": names, "probability": rows.max(axis=1), "probabilities": list(rows)}
        )


set_model(ServedChampion())


def model_arguments() -> dict[str, Any]:
    """What `mlflow.pyfunc.log_model` needs, besides a name, to log the champion of the current folder's study.

    Raises:
        UserError: the study has no champion.
    """
    variant = predict.read_champion()["variant"]
    return {
        "python_model": str(Path(__file__).resolve()),
        "code_paths": [str(folder) for folder in CODE],
        "artifacts": {"champion": str(paths.CHAMPION), "runs": str(paths.MODELS / variant)}
        | {path.name: str(path) for path in paths.result_paths(variant)},
        "signature": ModelSignature(
            inputs=Schema([ColSpec(DataType.binary, "image")]),
            outputs=Schema(
                [
                    ColSpec(DataType.long, "label"),
                    ColSpec(DataType.string, "class"),
                    ColSpec(DataType.float, "probability"),
                    ColSpec(Array(DataType.float), "probabilities"),
                ]
            ),
            params=ParamSchema([ParamSpec("vote", DataType.boolean, default=False)]),
        ),
        "input_example": pd.DataFrame({"image": [EXAMPLE.read_bytes()]}),
        "pip_requirements": _requirements(),
    }


def _requirements() -> list[str]:
    """The installed versions of what the served code imports."""
    pinned = []
    served = (
        "keras",
        "mlflow",
        "numpy",
        "pandas",
        "pillow",
        "pydantic",
        "scikit-image",
        "scipy",
        "tensorflow",
        "tensorflow-cpu",
    )
    for name in served:
        with contextlib.suppress(metadata.PackageNotFoundError):  # of the two TensorFlows one is there
            pinned.append(f"{name}=={metadata.version(name)}")
    return pinned


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


def _in_base64(text: str) -> str:
    base64.b64decode("".join(text.split()), validate=True)  # many programs break its lines
    return text


class _Frame(_Strict):
    columns: tuple[Literal["image"]]
    data: list[tuple[Annotated[str, AfterValidator(_in_base64)]]]
    index: list[int] | None = None  # as pandas writes it


class _Parameters(_Strict):
    vote: bool = False


class _Invocation(_Strict):
    dataframe_split: _Frame
    params: _Parameters = _Parameters()


def app() -> FastAPI:
    """The server of the registered model that this file is a copy in, for uvicorn."""
    return guarded_server(mlflow.pyfunc.load_model(str(Path(__file__).parents[3])))


def guarded_server(model: Any) -> FastAPI:
    """MLflow's scoring server, which answers what is no invocation, and whatever fails, in a few words.

    MLflow's own errors quote the whole request or show a stack trace, and it reads a body of any length.

    Args:
        model: a `mlflow.pyfunc.PyFuncModel`.
    """
    server: FastAPI = scoring_server.init(model)
    server.middleware("http")(_guarded)
    return server


async def _guarded(request: Request, answer_to: Callable[[Request], Awaitable[Any]]) -> Response:
    try:
        if request.url.path == "/invocations" and request.method == "POST" and (refusal := await _refusal(request)):
            return refusal
        answer = await answer_to(request)
        if answer.status_code < HTTPStatus.BAD_REQUEST:
            return answer
        said = _message(b"".join([part async for part in answer.body_iterator]))
    except ClientDisconnect:
        return _error(HTTPStatus.BAD_REQUEST, "the request was cut off")  # though nobody is there to read it
    except Exception:
        logging.getLogger("uvicorn.error").exception("an invocation failed")
        return _error(HTTPStatus.INTERNAL_SERVER_ERROR, "the server failed; its log says how")
    return _error(answer.status_code, said)


def _message(content: bytes) -> str:
    """What MLflow's error answer says to whoever asked.

    Raises:
        RuntimeError: it tells of a fault of the server, whatever its status.
    """
    try:
        said = json.loads(content)
    except ValueError:
        return content.decode(errors="replace")
    if "stack_trace" in said:
        raise RuntimeError(said["stack_trace"])
    # Before the model's own message MLflow puts the data.
    return str(said.get("message") or said.get("detail")).rpartition("\nError: ")[2]


async def _refusal(request: Request) -> Response | None:
    length = request.headers.get("content-length", "")
    if not length.isdecimal():
        return _error(HTTPStatus.LENGTH_REQUIRED, "expected a Content-Length, and no transfer in chunks")
    if int(length) > BODY_LIMIT:
        return _error(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            f"expected at most {BODY_LIMIT:,} bytes, received {int(length):,}: send fewer or smaller images",
        )
    if request.headers.get("content-type", "").partition(";")[0].strip() != scoring_server.CONTENT_TYPE_JSON:
        return _error(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "expected the header Content-Type: application/json")
    try:
        _Invocation.model_validate_json(await request.body())
    except ValidationError as error:
        found = [
            f"{'.'.join(map(str, item['loc'])) or 'body'}: {item['msg']}"
            for item in error.errors(include_url=False, include_context=False, include_input=False)
        ]
        expected = '{"dataframe_split": {"columns": ["image"], "data": [["<image file in base64>"]]}}'
        return _error(HTTPStatus.BAD_REQUEST, f"expected {expected}; {'; '.join(found[:SHOWN_ERRORS])}")
    return None


def _error(status: int, message: str) -> Response:
    content = {"error_code": HTTPStatus(status).name, "message": message[:MESSAGE_LIMIT]}
    return JSONResponse(content, status)


@console.command
def main() -> None:
    parser = console.Parser(prog="python -m tools.serving.server", description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--port", type=int, default=5001, help="on 127.0.0.1; 0 for any that is free (default: %(default)s)"
    )
    port = parser.parse_args().port
    name = address.model_name(params.load())
    # For the server too.
    os.environ |= {**ENVIRONMENT, **address.client_environment()}
    try:
        version = mlflow.MlflowClient().get_model_version_by_alias(name, ALIAS).version
        model = Path(mlflow.artifacts.download_artifacts(f"models:/{name}/{version}"))
    except MlflowException as error:
        said = str(error).split("\n")[0]
        raise UserError(
            f"there is no models:/{name}@{ALIAS} at {address.shown_uri()} ({said}): with the models here "
            "(`dvc pull`, or `dvc repro`), publish it by `python -m stages.tracking` and then "
            "`python -m tools.serving.register`"
        ) from error
    print(f"models:/{name}@{ALIAS}, version {version}: POST to /invocations", flush=True)
    command = [
        sys.executable,
        "-m",
        "uvicorn",
        "--factory",
        "tools.serving.server:app",
        "--app-dir",
        str(model / "code"),
    ]
    command += ["--host", "127.0.0.1", "--port", str(port), "--no-access-log"]
    os.execv(sys.executable, [*command, "--limit-concurrency", str(CONNECTION_LIMIT)])


if __name__ == "__main__":
    main()
