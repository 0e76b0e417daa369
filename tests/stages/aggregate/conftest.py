"""Aggregation without drawing, which takes more than half of its time."""

import contextlib
from collections.abc import Iterator

import pytest

from stages.aggregate.report import figures


@contextlib.contextmanager
def undrawn() -> Iterator[None]:
    """Figures are made in the block, but neither drawn as PNG files nor as elements of the page."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "png", lambda figure: b"")
        patch.setattr(figures, "svg", lambda figure, title, name, tooltips: "")
        yield


@pytest.fixture
def without_figures() -> Iterator[None]:
    """Figures are made, but not drawn."""
    with undrawn():
        yield


@pytest.fixture
def without_png(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are drawn on the page only."""
    monkeypatch.setattr(figures, "png", lambda figure: b"")
