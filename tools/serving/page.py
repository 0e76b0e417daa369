"""The page of the server, on which people draw or choose pictures: its files, and the requests that it sends."""

import functools
from http import HTTPStatus
from pathlib import Path
from typing import Any, Protocol

from fastapi import FastAPI, HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse

from many_seeds.errors import UserError

STATIC = Path(__file__).with_name("static")
FILES = {"/": "index.html", "/page.css": "page.css", "/page.js": "page.js"}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {"Content-Security-Policy": POLICY, "X-Content-Type-Options": "nosniff", "Cache-Control": "no-cache"}


class Served(Protocol):
    """What the page needs of the model that is served."""

    def facts(self) -> dict[str, Any]:
        """Which model it is, how it was chosen, its accuracy, its classes, and the format of its images."""

    def classify(self, content: bytes, *, ensemble: bool) -> dict[str, Any]:
        """The class of an image file, the probabilities of all classes, and the image in the model's format.

        Raises:
            UserError: the image is invalid.
        """


def add_page(server: FastAPI, model: Served) -> None:
    """Add the page and its requests to a server."""
    for path, name in FILES.items():
        server.add_route(path, functools.partial(_send, STATIC / name), methods=["GET"])
    server.add_api_route("/model", model.facts, methods=["GET"])

    @server.post("/classify")
    async def classify(request: Request, ensemble: bool = False) -> dict[str, Any]:
        content = await request.body()
        try:
            return await run_in_threadpool(model.classify, content, ensemble=ensemble)
        except UserError as error:
            raise HTTPException(HTTPStatus.BAD_REQUEST, str(error)) from error


async def _send(path: Path, _: Request) -> FileResponse:
    return FileResponse(path, headers=HEADERS)
