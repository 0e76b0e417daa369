"""The committed report in a browser."""

import contextlib
import re
from collections.abc import Iterator
from typing import Any

import pandas as pd
import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.support.ui import WebDriverWait

from stages.study import paths
from stages.study.comparisons import named_pairs
from stages.study.params import Params
from tests import ROOT

REPORT = (ROOT / paths.REPORT).as_uri()
WIDTHS = [390, 1280]  # of a phone and of a laptop, in CSS pixels


@pytest.fixture(scope="module", params=WIDTHS)
def page(request: pytest.FixtureRequest, browser: Chrome, committed_study: Params) -> Chrome:
    """The report, loaded once at each of the widths: tests leave nothing behind but the order of a table."""
    size = {"width": request.param, "height": 800, "deviceScaleFactor": 1, "mobile": request.param < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get("about:blank")
    browser.get_log("browser")  # discard the messages of the previous page
    browser.get(REPORT)
    WebDriverWait(browser, 60).until(lambda page: evaluated(page, "document.readyState") == "complete")
    return browser


def evaluated(page: Chrome, expression: str) -> Any:
    return page.execute_script(f"return {expression}")


@contextlib.contextmanager
def scheme_of(page: Chrome, scheme: str) -> Iterator[None]:
    """The page in its light or dark colours."""
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": features})
    try:
        yield
    finally:
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})


def test_the_console_is_empty_and_nothing_is_loaded_from_other_files(page: Chrome) -> None:
    assert page.get_log("browser") == []
    loaded = evaluated(page, "performance.getEntriesByType('resource').map(entry => entry.name.slice(0, 40))")
    assert [name for name in loaded if not name.startswith("data:")] == []


def test_every_figure_is_drawn_and_has_an_alternative_text_with_numbers(page: Chrome) -> None:
    figures = evaluated(
        page,
        """[...document.querySelectorAll("figure svg")].map(svg => ({
            name: svg.getAttribute("aria-label"), role: svg.getAttribute("role"),
            height: svg.getBoundingClientRect().height, inked: svg.querySelectorAll("path, use, image").length}))""",
    )
    assert len(figures) >= len(list((ROOT / paths.PLOTS).glob("*.png")))
    for figure in figures:
        assert figure["role"] == "img"
        assert re.search(r"\d", figure["name"]) or "weights" in figure["name"]
        assert figure["height"] > 50
        assert figure["inked"] > 1  # the background is one


def test_every_image_loads(page: Chrome) -> None:
    """Digits are images inside the figures. Decoding fails for damaged ones."""
    page.set_script_timeout(20)
    failed = page.execute_async_script(
        """const done = arguments[0];
        const sources = [...document.querySelectorAll("img, svg image")].map(
            image => image.src || image.getAttribute("href") || image.getAttribute("xlink:href"));
        const decoded = source => Object.assign(new Image(), {src: source}).decode();
        Promise.allSettled(sources.map(decoded)).then(results =>
            done([results.length, results.filter(result => result.status === "rejected").length]));"""
    )
    images, broken = failed
    assert images > 0
    assert broken == 0


def test_only_elements_that_scroll_are_wider_than_the_screen(page: Chrome) -> None:
    width = evaluated(page, "innerWidth")
    assert evaluated(page, "document.scrollingElement.scrollWidth") <= width
    outside = evaluated(
        page,
        """[...document.querySelectorAll("body *")].filter(element => {
            const scrolls = element.closest(".scroll");
            return !(scrolls && scrolls !== element) && element.getBoundingClientRect().right > innerWidth + 1;
        }).map(element => element.outerHTML.slice(0, 80))""",
    )
    assert outside == []


def test_the_main_result_and_its_interval_are_in_the_first_screen(page: Chrome) -> None:
    assert "interval" in evaluated(page, "document.querySelector('.lead').textContent")
    for part in (".lead", ".facts"):
        bottom = evaluated(page, f"document.querySelector('{part}').getBoundingClientRect().bottom")
        assert bottom < evaluated(page, "innerHeight")
    terms = evaluated(page, "[...document.querySelectorAll('.facts dt')].map(term => term.textContent)")
    assert terms == ["These images", "New images", "Served model", "Cost"]


def test_the_figure_of_comparisons_starts_in_the_first_screen(page: Chrome, committed_study: Params) -> None:
    assert evaluated(page, "document.querySelector('#figure-overview svg').getBoundingClientRect().top") < 600
    caption = evaluated(page, "document.querySelector('#figure-overview figcaption').textContent")
    assert f"of {len(named_pairs(committed_study))} comparisons have a verdict" in caption


def test_the_text_of_figures_is_large_enough(page: Chrome) -> None:
    small = evaluated(
        page,
        """[...document.querySelectorAll("figure svg text")].filter(text => {
            const {a, b} = text.getScreenCTM();  // b is the scale of rotated text
            return parseFloat(getComputedStyle(text).fontSize) * Math.hypot(a, b) < 11;
        }).map(text => text.textContent)""",
    )
    assert small == []


# Grid lines and axes, in the colour --line, only guide the eye.
CONTRASTS = """
    const shades = color => (color.match(/[0-9.]+/g) || []).map(Number);
    const linear = shade => shade <= 10 ? shade / 3294 : ((shade / 255 + 0.055) / 1.055) ** 2.4;
    const luminance = rgb => rgb.map(linear).reduce((sum, part, i) => sum + part * [0.2126, 0.7152, 0.0722][i], 0.05);
    const paper = shades(getComputedStyle(document.body).backgroundColor);
    const probe = document.body.appendChild(document.createElement("i"));
    probe.style.color = "var(--line)";
    const line = getComputedStyle(probe).color;
    probe.remove();
    const contrast = (color, opacity) => {
        const [r, g, b, alpha = 1] = shades(color);
        const seen = [r, g, b].map((shade, i) => paper[i] + alpha * opacity * (shade - paper[i]));
        const [dark, light] = [luminance(seen), luminance(paper)].sort((x, y) => x - y);
        return light / dark;
    };
    const found = {text: {}, mark: {}};
    for (const element of document.querySelectorAll("figure svg :is(path, use, text)")) {
        if (element.closest("defs")) continue;
        const style = getComputedStyle(element);
        const paints = [[style.fill, style.fillOpacity * style.opacity]];
        if (parseFloat(style.strokeWidth)) paints.push([style.stroke, style.strokeOpacity * style.opacity]);
        const seen = paints.filter(([color, opacity]) => color !== "none" && opacity > 0);
        if (!seen.length || seen.some(([color]) => color === line)) continue;
        const kind = element.tagName === "text" ? "text" : "mark";
        found[kind][seen.join(" ")] = Math.max(...seen.map(paint => contrast(...paint)));
    }
    return found;
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_and_marks_of_figures_have_enough_contrast(page: Chrome, scheme: str) -> None:
    """The ratios that WCAG 2.2 asks for, criteria 1.4.3 and 1.4.11; for an area with an edge, that of the edge."""
    with scheme_of(page, scheme):
        found = page.execute_script(CONTRASTS)
    assert min(found["text"].values()) > 4.5
    assert len(found["mark"]) > 10
    assert {color: ratio for color, ratio in found["mark"].items() if ratio < 3} == {}


def test_the_edge_of_a_marker_has_the_colour_of_the_page(page: Chrome) -> None:
    with scheme_of(page, "dark"):
        edges = evaluated(
            page,
            """[...document.querySelectorAll("#figure-overview use")].filter(
                mark => getComputedStyle(mark).stroke === "rgb(255, 255, 255)").length""",
        )
    assert edges == 0


def test_a_wide_figure_is_not_cut_off_at_the_bottom(page: Chrome) -> None:
    assert evaluated(
        page,
        """[...document.querySelectorAll(".wide .scroll")].map(
            scroll => scroll.scrollHeight - scroll.clientHeight)""",
    ) == [0]


def test_names_of_variants_break_only_after_an_underscore_and_only_on_a_phone(page: Chrome) -> None:
    broken = evaluated(
        page,
        """[...document.querySelectorAll("tbody th")].flatMap(head => {
            const walker = document.createTreeWalker(head, NodeFilter.SHOW_TEXT), parts = [];
            const whole = innerWidth < 600 ? /[^ ]+/g : /.+/g;
            while (walker.nextNode()) for (const part of walker.currentNode.data.matchAll(whole)) {
                const range = document.createRange();
                range.setStart(walker.currentNode, part.index);
                range.setEnd(walker.currentNode, part.index + part[0].length);
                if (new Set([...range.getClientRects()].map(line => line.top)).size > 1) parts.push(part[0]);
            }
            return parts;
        })""",
    )
    assert broken == []


def test_results_are_chosen_by_verdict_and_part_and_link_to_their_figures(page: Chrome) -> None:
    results = pd.read_csv(ROOT / paths.TABLES / "results.csv")
    chosen = results[(results["verdict"] == "better") & results["named_in"].str.contains("chain mlp")]

    def choose(verdict: str, part: str) -> int:
        shown = page.execute_script(
            """const selects = document.querySelectorAll("#table-results select");
            [selects[0].value, selects[1].value] = arguments;
            selects[0].dispatchEvent(new Event("change", {bubbles: true}));
            return [...document.querySelectorAll("#table-results tbody tr")].filter(row => row.offsetHeight).length;""",
            verdict,
            part,
        )
        said = evaluated(page, "document.querySelector('#table-results output').textContent")
        assert said == f"{shown} of {len(results)} rows"
        return int(shown)

    assert choose("better", "chain mlp") == len(chosen) > 0
    assert choose("", "") == len(results)
    links = evaluated(page, "[...document.querySelectorAll('#table-results a')].map(link => link.hash.slice(1))")
    assert len(links) >= len(results)
    titles = page.execute_script(
        """return arguments[0].map(id => document.getElementById(id)).map(
            element => (element.querySelector("title, figcaption") || {}).textContent)""",
        links,
    )
    assert all(titles)
    tooltips = evaluated(page, "[...document.querySelectorAll('#figure-overview title')].map(one => one.textContent)")
    assert len(tooltips) == len(results)
    assert all(" … " in text and "n = " in text for text in tooltips)


def test_verdict_interval_and_n_of_a_comparison_are_beside_its_name(page: Chrome) -> None:
    columns = evaluated(
        page,
        """[...document.querySelectorAll("#table-results thead th")].slice(0, 4).map(
            head => [head.textContent, head.getBoundingClientRect().right])""",
    )
    assert [columns[place][0] for place in (0, 1, 3)] == ["a → b", "verdict", "n"]
    assert "(interval)" in columns[2][0]
    assert columns[3][1] < evaluated(page, "innerWidth")


def test_clicks_on_a_header_sort_its_table_in_ascending_and_descending_order(
    page: Chrome, committed_study: Params
) -> None:
    def column() -> list[float]:
        return list(
            evaluated(
                page,
                """[...document.querySelectorAll("#table-variants tbody tr")].map(
                    row => Number(row.cells[2].dataset.value))""",
            )
        )

    header = 'document.querySelectorAll("#table-variants thead button")[2].click()'
    page.execute_script(header)
    assert column() == sorted(column())
    page.execute_script(header)
    assert column() == sorted(column(), reverse=True)
    assert len(column()) == len(committed_study.variants)


def test_print_shows_complete_tables_and_dark_mode_has_light_text(page: Chrome) -> None:
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        assert evaluated(page, "getComputedStyle(document.querySelector('.scroll')).overflowX") == "visible"
        assert evaluated(page, "getComputedStyle(document.querySelector('nav')).display") == "none"
    finally:
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    with scheme_of(page, "dark"):
        paper, ink = (
            sum(map(int, evaluated(page, f"getComputedStyle(document.body).{name}.match(/[0-9]+/g)")))
            for name in ("backgroundColor", "color")
        )
    assert paper < 150 < 600 < ink
