"""Serve the registered champion over HTTP with MLflow's scoring server: `python -m tools.serving.server`.

MLflow stores a copy of this file and of the packages that it imports with the model ("models from code"), and the
server executes that copy.
"""

import base64
import contextlib
import io
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
from PIL import Image
from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError
from starlette.requests import ClientDisconnect

import many_seeds
import stages.recipes
import stages.split
import stages.study
import tools
from many_seeds.commands import console
from many_seeds.errors import UserError
from stages.study import files, params, paths
from stages.study.records.results import find_results
from stages.tracking import address
from stages.tracking.client import check_database
from tools.serving import page, predict, prepare

ALIAS = "champion"
SCALING = "scaling"  # `Data.scaling` of the study, in the configuration of the registered model
EXAMPLE = Path(__file__).with_name("example.png")
# The packages that MLflow copies with the model, and their folders that a request uses.
CODE = [Path(module.__file__).resolve().parent for module in (many_seeds, stages, tools) if module.__file__]
USED = [
    Path(__file__).parent,
    *(Path(module.__file__).parent for module in (stages.recipes, stages.split, stages.study) if module.__file__),
]
BODY_LIMIT = 16_000_000  # bytes of one request, enough for an image of pictures.BYTES_LIMIT in base64
COPIES = Path("build/served")  # a folder for each version of the model that was served from here
CONNECTION_LIMIT = 64  # concurrent connections; with the limit above, it bounds the memory of requests
MESSAGE_LIMIT = 500  # characters of an error message
ENVIRONMENT = {
    **address.ENVIRONMENT,
    "TF_NUM_INTRAOP_THREADS": "1",  # as in the stage `evaluate`; requests are processed in parallel
    "TF_CPP_MIN_LOG_LEVEL": "2",
}
SHOWN_ERRORS = 5  # maximum number of errors in the message for one request


class ServedChampion(PythonModel):
    """The champion as a model of MLflow, from image files to classes and probabilities."""

    def load_context(self, context: Any) -> None:
        """Load the models from the artifacts of the registered model."""
        artifacts = {name: Path(path) for name, path in context.artifacts.items()}
        best = predict.read_champion(artifacts["champion"])
        results = find_results(best["variant"], artifacts[paths.scores_path("").name].parent)
        if results is None:
            raise UserError(f"the model has no results of {best['variant']}: register it again")
        self._champion = predict.Classifier(best["seed"], best["key"], results, artifacts["runs"], ensemble=True)
        # Not from params.yaml: the server, or the program that loads the model, may run in the folder of another study.
        self._format = predict.image_format(results, context.model_config[SCALING])
        self._classes = results.classes
        self._facts = {
            "name": predict.describe(best),
            "rule": best["rule"],
            "accuracy": float(results.accuracy[results.seeds.index(best["seed"])]),
            "members": results.members,
            "ensemble_accuracy": results.ensemble_accuracy,
            "images": len(results.truth),
            "classes": results.classes,
            "shape": self._format.shape,
            "drawing": self._format.layout is not None,
            "scaling": self._format.resize,
        }
        # The first calls with one and with several images compile a model, which would delay the first requests.
        for count in (1, 2):
            for ensemble in (False, True):
                self._champion.probabilities(np.zeros((count, *self._format.shape), np.uint8), ensemble=ensemble)

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Classify the image files in the column `image`.

        An invalid image fails the whole call, so that every row of a response is a prediction. The error names the
        invalid rows.

        Args:
            context: of MLflow; not used.
            model_input: a table with the bytes of an image file in each row of `image`.
            params: {"vote": True} for the ensemble.

        Returns:
            A row for each image: its label, the name of that class, its probability, and float32 [classes], the
            probabilities of all classes.

        Raises:
            MlflowException: an image is invalid, or there is none.
        """
        images, refused = [], []
        for row, content in enumerate(model_input["image"]):
            try:
                images.append(prepare.prepare(content, self._format))
            except UserError as error:
                refused.append(f"row {row}: {error}")
        if refused or not images:
            shown = refused[:SHOWN_ERRORS] or ["expected at least one image, received none"]
            more = [f"and {len(refused) - SHOWN_ERRORS} more"] if len(refused) > SHOWN_ERRORS else []
            raise MlflowException("; ".join(shown + more), INVALID_PARAMETER_VALUE)
        rows = self._champion.probabilities(np.stack(images), ensemble=bool(params and params["vote"]))
        labels = rows.argmax(axis=1)
        names = [self._classes[label] for label in labels]
        return pd.DataFrame(
            {"label": labels, "class": names, "probability": rows.max(axis=1), "probabilities": list(rows)}
        )

    def facts(self) -> dict[str, Any]:
        """See `page.Served`."""
        return self._facts

    def classify(self, content: bytes, *, ensemble: bool) -> dict[str, Any]:
        """See `page.Served`."""
        image = prepare.prepare(content, self._format)
        probabilities = self._champion.probabilities(image[None], ensemble=ensemble)[0]
        png = io.BytesIO()
        Image.fromarray(image).save(png, "PNG")
        return {
            "class": self._classes[int(probabilities.argmax())],
            "probabilities": probabilities.tolist(),
            "image": base64.b64encode(png.getvalue()).decode(),
        }


set_model(ServedChampion())


def model_arguments() -> dict[str, Any]:
    """The arguments of `mlflow.pyfunc.log_model`, without the name, for the champion of the study in this folder.

    Raises:
        UserError: the study has no champion.
    """
    variant = predict.read_champion()["variant"]
    return {
        "python_model": str(Path(__file__).resolve()),
        "code_paths": [str(folder) for folder in CODE],
        "model_config": {SCALING: params.load().data.scaling},
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
    """The packages that the served code imports, with their installed versions."""
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
        with contextlib.suppress(metadata.PackageNotFoundError):  # only one package of TensorFlow is installed
            pinned.append(f"{name}=={metadata.version(name)}")
    return pinned


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


def _in_base64(text: str) -> str:
    base64.b64decode("".join(text.split()), validate=True)  # many programs insert line breaks
    return text


class _Frame(_Strict):
    columns: tuple[Literal["image"]]
    data: list[tuple[Annotated[str, AfterValidator(_in_base64)]]]
    index: list[int] | None = None  # written by pandas


class _Parameters(_Strict):
    vote: bool = False


class _Invocation(_Strict):
    dataframe_split: _Frame
    params: _Parameters = _Parameters()


def app() -> FastAPI:
    """The server of the registered model that contains this copy of the file, for uvicorn."""
    return guarded_server(mlflow.pyfunc.load_model(str(Path(__file__).parents[3])))


def guarded_server(model: Any) -> FastAPI:
    """MLflow's scoring server with a page for people, validation of requests and short errors.

    By itself, MLflow reads bodies of any size, and its errors quote the whole request or a stack trace.

    Args:
        model: a `mlflow.pyfunc.PyFuncModel`.
    """
    server: FastAPI = scoring_server.init(model)
    page.add_page(server, model.unwrap_python_model())
    server.middleware("http")(_guard)
    return server


async def _guard(request: Request, call_next: Callable[[Request], Awaitable[Any]]) -> Response:
    """Middleware that validates requests and shortens the errors of MLflow."""
    try:
        if request.method == "POST" and (invalid := _check_length(request) or await _validate(request)):
            return invalid
        response = await call_next(request)
        if response.status_code < HTTPStatus.BAD_REQUEST:
            return response
        message = _message(b"".join([part async for part in response.body_iterator]))
    except ClientDisconnect:
        return _error(HTTPStatus.BAD_REQUEST, "the request was interrupted")
    except Exception:
        logging.getLogger("uvicorn.error").exception("a request failed")
        return _error(HTTPStatus.INTERNAL_SERVER_ERROR, "the server failed: see its log")
    return _error(response.status_code, message)


def _message(content: bytes) -> str:
    """The message of an error response of MLflow, for the client.

    Raises:
        RuntimeError: the response has a stack trace, so it is an error of the server, whatever its status.
    """
    try:
        error = json.loads(content)
    except ValueError:
        return content.decode(errors="replace")
    if "stack_trace" in error:
        raise RuntimeError(error["stack_trace"])
    # MLflow prepends the data to the message of the model.
    return str(error.get("message") or error.get("detail")).rpartition("\nError: ")[2]


def _check_length(request: Request) -> Response | None:
    """The error response for a request that is too large or does not say how large it is, or None."""
    length = request.headers.get("content-length", "")
    if not length.isdecimal():
        return _error(HTTPStatus.LENGTH_REQUIRED, "expected a Content-Length, without chunked transfer encoding")
    if int(length) > BODY_LIMIT:
        return _error(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            f"expected at most {BODY_LIMIT:,} bytes, received {int(length):,}: send fewer or smaller images",
        )
    return None


async def _validate(request: Request) -> Response | None:
    """The error response for an invalid request to /invocations, or None."""
    if request.url.path != "/invocations":
        return None
    if request.headers.get("content-type", "").partition(";")[0].strip() != scoring_server.CONTENT_TYPE_JSON:
        return _error(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "expected the header Content-Type: application/json")
    try:
        _Invocation.model_validate_json(await request.body())
    except ValidationError as error:
        errors = [
            f"{'.'.join(map(str, item['loc'])) or 'body'}: {item['msg']}"
            for item in error.errors(include_url=False, include_context=False, include_input=False)
        ]
        expected = '{"dataframe_split": {"columns": ["image"], "data": [["<image file in base64>"]]}}'
        return _error(HTTPStatus.BAD_REQUEST, f"expected {expected}; {'; '.join(errors[:SHOWN_ERRORS])}")
    return None


def _error(status: int, message: str) -> Response:
    """An error response in the format of MLflow."""
    content = {"error_code": HTTPStatus(status).name, "message": message[:MESSAGE_LIMIT]}
    return JSONResponse(content, status)


def downloaded(version: Any) -> Path:
    """The folder with the files of a version of the registered model, which later starts of the server use again.

    Args:
        version: a `mlflow.entities.model_registry.ModelVersion`, whose tag `address.KEY` identifies its content.

    Raises:
        UserError: the version was not registered by a study.
    """
    key = version.tags.get(address.KEY, "")
    if not key.isalnum():
        raise UserError(
            f"version {version.version} of {version.name} should be one that `python -m tools.serving.register` "
            f"registered, received one without the tag {address.KEY}: register the model, or set {address.MODEL_NAME}"
        )
    folder = COPIES / key[:16]
    if not folder.exists():
        with files.written_whole(folder) as unfinished:
            unfinished.mkdir()
            mlflow.artifacts.download_artifacts(f"models:/{version.name}/{version.version}", dst_path=str(unfinished))
    return folder


@console.command
def main() -> None:
    parser = console.Parser(prog="python -m tools.serving.server", description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--port", type=int, default=5001, help="the port on 127.0.0.1; 0 for any free port (default: %(default)s)"
    )
    port = parser.parse_args().port
    name = address.model_name(params.load())
    # Inherited by the server.
    os.environ |= {**ENVIRONMENT, **address.client_environment()}
    check_database()
    try:
        found = mlflow.MlflowClient().get_model_version_by_alias(name, ALIAS)
        model = downloaded(found)
    except MlflowException as error:
        reason = str(error).split("\n")[0]
        raise UserError(
            f"there is no models:/{name}@{ALIAS} at {address.shown_uri()} ({reason}): with the models here "
            "(`dvc pull` or `dvc repro`), run `python -m stages.tracking` and then `python -m tools.serving.register`"
        ) from error
    print(f"models:/{name}@{ALIAS}, version {found.version}: a page at /, requests to /invocations", flush=True)
    command = [
        sys.executable,
        "-m",
        "uvicorn",
        "--factory",
        "tools.serving.server:app",
        "--app-dir",
        str(model.resolve() / "code"),
    ]
    command += ["--host", "127.0.0.1", "--port", str(port), "--no-access-log"]
    # uvicorn refuses a request if there are as many connections as its limit, with that of the request.
    os.execv(sys.executable, [*command, "--limit-concurrency", str(CONNECTION_LIMIT + 1)])


if __name__ == "__main__":
    main()
