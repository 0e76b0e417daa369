"""The published study on a server: in MLflow's own UI, in a real browser, what a user looks for is a few clicks away.

One server for all tests.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from stages.study import paths
from stages.study.params import Params
from stages.tracking.experiment import pages
from stages.tracking.publisher import Publisher
from tests.support.command import run_main
from tests.support.mlflow import client, mlflow_server, proxy, sqlite, version_2
from tools.serving.register import main as register
from tools.ui import main as print_pages

PATIENCE = 30  # seconds, for a page of the UI on a busy machine


@pytest.fixture(scope="module")
def server(
    aggregated_study: Path, study: Params, empty_database: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The address of the server with the study."""
    with (
        sqlite(empty_database) as store,
        mlflow_server(store, tmp_path_factory.mktemp("artifacts")) as address,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("MLFLOW_TRACKING_URI", address)
        patch.chdir(aggregated_study)
        publisher = Publisher(study)
        publisher.publish_variants(list(study.variants))
        publisher.publish_study()
        assert not publisher.failed
        yield address


@pytest.fixture(scope="module")
def ui(server: str) -> str:
    """The address of the experiment's page."""
    return f"{server}/#/experiments/{client().get_experiment_by_name('digits').experiment_id}/runs"


@pytest.fixture
def page(ui: str, browser: Chrome) -> Chrome:
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 1600, "height": 1000, "deviceScaleFactor": 1, "mobile": False}
    )
    browser.get(ui)
    browser.execute_script("localStorage.clear(); sessionStorage.clear()")  # what the test before has opened
    browser.get("about:blank")  # or the address would keep the filter of that page
    browser.get(ui)
    return browser


def eventually(page: Chrome, look: Callable[[Chrome], Any], expected: str) -> Any:
    """What `look` finds, as soon as it finds something: the page fills while one looks at it."""
    patient = WebDriverWait(page, PATIENCE, ignored_exceptions=[StaleElementReferenceException, NoSuchElementException])
    return patient.until(look, expected)


def listed(page: Chrome, count: int) -> list[str]:
    """The names of the runs in the table, from top to bottom, once there are `count`."""

    def look(page: Chrome) -> list[str] | None:
        links = page.find_elements(By.CSS_SELECTOR, ".ag-cell a[href*='/runs/']")
        names = [link.text for link in sorted(links, key=lambda link: float(link.location["y"]))]
        return names if len(names) == count and all(names) else None

    return list(eventually(page, look, f"not {count} runs"))


def open_page(page: Chrome, ui: str, study: Params, name: str) -> None:
    """The address that the study names for what is looked for."""
    page.get("about:blank")  # or only the page's #… would change, and the view be looked up by the page that is there
    page.get(pages(study, ui.partition("/#/")[0])[name])


def test_the_experiment_lists_the_study_and_a_parent_for_each_variant(page: Chrome, study: Params) -> None:
    assert sorted(listed(page, 5)) == sorted(["study", *study.variants])


def test_a_variant_opens_to_show_its_seeds(page: Chrome) -> None:
    listed(page, 5)
    page.find_element(
        By.XPATH, "//a[normalize-space()='watched']/ancestor::div[contains(@class, 'ag-cell')][1]//button"
    ).click()
    names = listed(page, 7)
    first = names.index("watched") + 1
    assert sorted(names[first : first + 2]) == ["watched seed 0", "watched seed 1"]


def test_the_runs_are_listed_the_best_on_top(page: Chrome, ui: str, study: Params, aggregated_study: Path) -> None:
    open_page(page, ui, study, "Runs, best validation accuracy first")
    tables = {path.parent.name: pd.read_csv(path) for path in (aggregated_study / paths.RUNS).glob("*/test.csv")}
    scores = {
        f"{variant} seed {row.seed}": row.dev_accuracy
        for variant, table in tables.items()
        for row in table.itertuples()
    }
    names = listed(page, len(scores))
    with_dev = [name for name in names if not pd.isna(scores[name])]
    assert names[: len(with_dev)] == with_dev == sorted(with_dev, key=lambda name: -scores[name])


def test_the_address_that_is_named_shows_the_approaches_with_their_scores(ui: str, page: Chrome, study: Params) -> None:
    """In a browser that has never been here, where MLflow's UI would open in its mode for language models."""
    page.execute_script("localStorage.clear(); sessionStorage.clear()")
    open_page(page, ui, study, next(iter(pages(study, ui.partition("/#/")[0]))))
    assert sorted(listed(page, len(study.approaches))) == sorted(study.approaches.values())
    headers = page.find_element(By.CSS_SELECTOR, ".ag-header").text
    assert {"result", "dev_accuracy", "test_accuracy"} <= set(headers.split())


def test_the_chart_page_draws_the_curves_of_several_seeds(page: Chrome, ui: str, study: Params) -> None:
    open_page(page, ui, study, "MLP: the seeds of watched")
    listed(page, 2)
    page.get(f"{page.current_url}&compareRunsMode=CHART")
    page.refresh()

    def curves(page: Chrome) -> bool:
        cards = page.find_elements(By.CSS_SELECTOR, "[data-testid='experiment-view-compare-runs-card']")
        drawn = {
            card.text.split("\n")[0]: len(card.find_elements(By.CSS_SELECTOR, ".scatterlayer .trace")) for card in cards
        }
        return drawn.get("accuracy", 0) >= 2

    eventually(page, curves, "no chart of accuracy with a curve for each of two seeds")


def test_the_study_has_its_report_among_its_artifacts(page: Chrome) -> None:
    listed(page, 5)
    page.get(f"{page.find_element(By.LINK_TEXT, 'study').get_attribute('href')}/artifacts/report.html")
    page.refresh()

    def report(page: Chrome) -> bool:
        frame = page.find_element(By.TAG_NAME, "iframe")
        page.switch_to.frame(frame)
        try:
            return bool(page.find_element(By.TAG_NAME, "h1").text)
        finally:
            page.switch_to.default_content()

    eventually(page, report, "the report is not shown")


def test_with_the_address_of_a_server_its_pages_are_printed(
    server: str, ui: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("BROWSER", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    login = server.replace("://", "://user:p%40ss@")
    answer = run_main(print_pages, environment={"MLFLOW_TRACKING_URI": f"{login}/"})
    assert answer.status == 0, answer.err
    assert f"Approaches: {ui}?workflowType=machine_learning&viewStateShareKey=study-approaches" in answer.out
    assert "user:" not in answer.out  # links are shared


def test_a_server_of_mlflow_2_gets_the_runs_and_registering_says_what_it_lacks(
    server: str, study: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "of MLflow 2")
    with proxy(server, version_2) as address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        publisher = Publisher(study)
        publisher.publish_variants(list(study.variants))
        publisher.publish_study()
        assert not publisher.failed
        experiment = client().get_experiment_by_name("of MLflow 2")
        assert len(client().search_runs([experiment.experiment_id])) == 13
        refused = run_main(register)
        assert not client().search_registered_models()
    assert refused.status == 1
    assert f"error: the model is not registered: {address} runs MLflow 2.22.0" in refused.err
    assert "html" not in refused.err
    assert "Traceback" not in refused.err
