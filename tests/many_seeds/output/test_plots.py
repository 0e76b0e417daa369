"""Figures of results."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

import many_seeds as ms
from many_seeds import UserError
from many_seeds.output import plots
from many_seeds.output.forest import forest
from tests.support.command import TENTHS, Run, long, write

ZEROS = [0.0] * 10
SIGNATURES = {"f.png": b"\x89PNG", "f.svg": b"<?xml", "f.pdf": b"%PDF"}


def shown(figure: Figure) -> tuple[list[Any], list[str]]:
    """The places of the texts in the first axes, and what the legend says."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")
        FigureCanvasAgg(figure).draw()
    legend = [text.get_text() for one in figure.legends for text in one.get_texts()]
    return [text.get_window_extent() for text in figure.axes[0].texts], legend


@pytest.mark.parametrize("name", SIGNATURES)
def test_a_figure_is_written_also_of_intervals_that_rule_out_nothing(name: str, tmp_path: Path) -> None:
    results = ms.compare({"a": ZEROS, "b": TENTHS, "c": [1.0]}, margin=0.1)
    figure = results.plot(tmp_path / name)
    content = (tmp_path / name).read_bytes()
    assert content.startswith(SIGNATURES[name])
    assert len(content) > 5000
    assert isinstance(figure, Figure)


def test_a_file_costs_one_drawing_of_its_figure(tmp_path: Path) -> None:
    figure = forest(ms.compare({"a": ZEROS, "b": TENTHS}))
    with mock.patch.object(Figure, "draw", autospec=True, side_effect=Figure.draw) as draw:
        plots.write(tmp_path / "f.svg", figure)
    assert draw.call_count == 1


def test_the_command_writes_the_same_figure(run: Run, tmp_path: Path) -> None:
    scores = {"a": ZEROS, "b": TENTHS}
    assert run(write(long(scores).replace("accuracy", "score")), "--figure", "f.png").status == 0
    ms.compare(scores).plot("g.png")
    assert Path("f.png").read_bytes() == Path("g.png").read_bytes()


def test_another_format_is_refused_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"should end in .png, .svg or .pdf, received .*f.gif"):
        ms.compare({"a": ZEROS, "b": TENTHS}).plot(tmp_path / "f.gif")
    assert list(tmp_path.iterdir()) == []


def test_names_in_a_figure_are_shown_as_they_are_and_never_overlap(tmp_path: Path) -> None:
    names = ["$x_1$", "残差网络五十层" * 9, "W" * 300, "lr=0.1 " * 12, "العربية"]
    results = ms.compare({name.strip(): TENTHS[place:] + TENTHS[:place] for place, name in enumerate(names)})
    figure = results.plot(tmp_path / "f.svg")  # nor is there a warning of a font that lacks characters
    places, _ = shown(figure)
    assert len(places) == 20
    for pair, result in zip(places[::2], places[1::2], strict=True):
        assert figure.bbox.x0 <= pair.x0 < pair.x1 < result.x0 < result.x1 <= figure.bbox.x1
    svg = (tmp_path / "f.svg").read_text(encoding="utf-8")
    assert "$x_1$" in svg
    assert "W" * 300 not in svg
    assert "W…W" in svg


@pytest.mark.parametrize("pairs", [1, 2, 8, 40])
def test_no_label_covers_another_one_and_margin_and_legend_are_visible(pairs: int) -> None:
    generator = np.random.default_rng(0)
    scores = {"a": TENTHS} | {f"variant_{place}": generator.normal(place / 9, 0.3, 10) for place in range(pairs)}
    figure = ms.compare(scores, baseline="a", margin=0.05).plot()
    places, legend = shown(figure)
    assert legend == ["equivalence margin: ±0.05"]
    for place, box in enumerate(places):
        assert figure.bbox.y0 <= box.y0 < box.y1 <= figure.bbox.y1
        assert not any(box.overlaps(other) for other in places[place + 1 :])
    top = max(box.y1 for box in places)
    assert figure.legends[0].get_window_extent().y0 >= top - 1
    low, high = figure.axes[0].get_xlim()
    assert low < -0.05 < 0.05 < high


def test_a_figure_of_no_results_is_refused() -> None:
    with pytest.raises(UserError, match="a figure shows at least one result"):
        ms.compare({"a": ZEROS, "b": TENTHS}).of([]).plot()


def test_without_a_margin_there_is_no_legend() -> None:
    assert shown(ms.compare({"a": ZEROS, "b": TENTHS}).plot())[1] == []


def test_differences_far_beyond_the_margin_have_a_logarithmic_axis() -> None:
    figure = ms.compare({"a": ZEROS, "b": [100 * tenth for tenth in TENTHS]}, margin=0.05).plot()
    assert figure.axes[0].get_xscale() == "symlog"
    assert "symmetric log scale" in figure.axes[0].get_xlabel()


@pytest.mark.parametrize(
    ("margin", "expected"), [(0.05, ["−10", "−1", "−0.1", "0", "+0.1", "+1", "+10"]), (1.0, ["−30", "−10", "−3", "0"])]
)
def test_a_logarithmic_axis_has_at_least_three_labels_on_each_side(margin: float, expected: list[str]) -> None:
    figure = ms.compare({"a": ZEROS, "b": [50 * tenth for tenth in TENTHS]}, margin=margin).plot()
    labels = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert labels[: len(expected)] == expected


def test_rows_may_have_labels_and_references() -> None:
    results = ms.compare({"a": ZEROS, "b": TENTHS, "c": [0.4, 0.3] * 5}, baseline="a")
    labels: Sequence[str] = ["wider", "deeper"]
    figure = forest(results, labels, [2.5, None], "reported in 2020")
    _, legend = shown(figure)
    assert figure.axes[0].get_xlim()[1] > 2.5
    assert [text.get_text() for text in figure.axes[0].texts][::2] == labels
    assert legend == ["reported in 2020"]


def test_names_that_no_installed_font_can_draw_are_numbered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plots, "_fonts_with", lambda characters: [])
    assert plots.drawable(["cat", "猫"]) == (["cat", "1"], ["DejaVu Sans"])
    characters = {"DejaVu Sans": {*map(ord, "cat")}, "Songs": {ord("猫")}}
    monkeypatch.setattr(plots, "_characters", lambda family: characters[family])
    monkeypatch.setattr(plots, "_fonts_with", lambda missing: ["Songs"])
    assert plots.drawable(["cat", "猫"]) == (["cat", "猫"], ["DejaVu Sans", "Songs"])
