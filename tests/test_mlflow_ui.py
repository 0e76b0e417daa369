"""The published study in MLflow's own UI, in a real browser: what a user looks for is a few clicks away."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from stages.params import Params
from stages.tracking import Publisher
from tests.mlflow_tools import client, mlflow_server, sqlite

PATIENCE = 60  # seconds, for a page of the UI on a busy machine


@pytest.fixture(scope="module")
def ui(aggregated_study: Path, study: Params, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the experiment's page."""
    with (
        sqlite() as store,
        mlflow_server(store, tmp_path_factory.mktemp("artifacts")) as address,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("MLFLOW_TRACKING_URI", address)
        patch.chdir(aggregated_study)
        publisher = Publisher(study)
        publisher.publish_variants(list(study.variants))
        publisher.publish_study()
        assert not publisher.failed
        experiment = client().get_experiment_by_name("digits")
        yield f"{address}/#/experiments/{experiment.experiment_id}/runs"


@pytest.fixture
def page(ui: str, browser: Chrome) -> Chrome:
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 1600, "height": 1000, "deviceScaleFactor": 1, "mobile": False}
    )
    browser.get("about:blank")  # the address of a view differs after the # only, which would not load anew
    browser.get(ui)
    return browser


def found(page: Chrome, *texts: str) -> list[WebElement]:
    """The visible links, buttons and menu items with these texts, once each is there."""

    def look(_: Chrome) -> list[WebElement]:
        places = [f"//*[self::a or self::button or @role='menuitem'][normalize-space()='{text}']" for text in texts]
        elements = [[e for e in page.find_elements(By.XPATH, place) if e.is_displayed()] for place in places]
        return [same[0] for same in elements] if all(elements) else []

    return WebDriverWait(page, PATIENCE, ignored_exceptions=[Exception]).until(look, f"not all of {texts} are there")


def run_names(page: Chrome) -> list[str]:
    """The names of the runs listed, from top to bottom."""
    links = [link for link in page.find_elements(By.CSS_SELECTOR, "a[href*='/runs/']") if link.is_displayed()]
    return [link.text for link in sorted(links, key=lambda link: link.location["y"])]


def test_the_experiment_lists_the_study_and_a_parent_for_each_variant_and_parents_open(
    page: Chrome, study: Params
) -> None:
    found(page, "study", *study.variants)
    assert sorted(run_names(page)) == sorted(["study", *study.variants])
