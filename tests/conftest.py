"""A small study on the digits of scikit-learn after each stage: split, evaluated, aggregated.

Each state is created once in a session, by one of the processes of pytest-xdist; tests get a copy of it as the current
folder.
"""

import os

# Before NumPy is imported. On problems of this size, several threads are slower than one.
os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "TF_CPP_MIN_LOG_LEVEL": "2"}

import contextlib
import shutil
import sqlite3
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from selenium.webdriver import Chrome, ChromeOptions, ChromeService

from stages.study import params, paths
from stages.study.params import Params
from stages.study.records.splits import read_images
from tests import ROOT
from tests.support.pipeline import Clone

CLASSES = 10  # of the digits

STUDY = """\
data: {name: digits}
split: {dev_fraction: 0.2, seeds: 8}
variants:
  ridge: {family: ridge, seeds: 2, grid_powers: [-4, 12], tolerance: 8.0}
  random_features:
    {family: ridge, seeds: 2, grid_powers: [-14, 12], tolerance: 8.0, hidden_units: 40, weight_sd: 0.2}
  plain: &plain
    family: network
    seeds: 2
    filters: []
    pool: []
    conv_dropout: []
    units: [8]
    dropout: 0.25
    initializer: glorot_uniform
    precision: float32
    learning_rate: 0.002
    decay: null
    batch_size: 64
    epochs: 2
    dev_split: false
    patience: null
    restore_best: false
  watched:
    <<: *plain
    epochs: 3
    decay: {start: 1, rate: 0.5}
    dev_split: true
    patience: 2
    restore_best: true
approaches: {linear: ridge, MLP: watched}
comparisons:
  - {a: plain, b: watched}
chains:
  MLP: [plain, watched]
statistics: {confidence: 0.95, equivalence_margin: 0.05, reproduction_margin: 0.1, design: open}
"""


# Files that take minutes start first, so that all processes of pytest-xdist end at about the same time: in this order,
# in which one process makes `finished_clone` while the other does not wait for it.
LONGEST = (
    "test_settled_study",
    "test_demo",
    "test_pipeline",
    "test_stale_stages",
    "test_own_model",
    "test_certify",
    "test_merge",
    "test_migrate",
    "test_cluster",
)
# `make test` leaves these files out: whole studies that are killed, merged, migrated or certified, and clusters.
SLOW = {
    "test_settled_study",
    "test_own_model",
    "test_cluster",
    "test_certify",
    "test_migrate",
    "test_merge",
    "test_demo",
    "test_server",
    "test_passwords",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {stem: place for place, stem in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(LONGEST)))
    for item in items:
        if item.path.stem in SLOW:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session", autouse=True)
def clean_environment() -> Iterator[None]:
    """Environment variables without the settings of the user who runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        for name in (
            "MLFLOW_TRACKING_URI",
            "MLFLOW_TRACKING_USERNAME",
            "MLFLOW_TRACKING_PASSWORD",
            "MLFLOW_TRACKING_TOKEN",
            "MLFLOW_EXPERIMENT_NAME",
            "DVC_EXP_NAME",
            "DATA_MIRROR",
            "DASK_SCHEDULER_ADDRESS",
            "KERAS_BACKEND",
            "COLUMNS",
            "LINES",
        ):
            patch.delenv(name, raising=False)
        for name in ("STUDY_WORKERS", "STUDY_EXECUTOR", "STUDY_REUSE", "STUDY_MODEL_NAME"):
            patch.delenv(name, raising=False)
        patch.setenv("PYTHONPATH", str(ROOT))  # pip installs many_seeds only, and some commands run in other folders
        yield


@pytest.fixture(scope="session")
def tensorflow_ready() -> None:
    """TensorFlow configured as in a worker, before the first operation of any test."""
    from stages.recipes.shared.training import prepare
    from stages.train.run import freeze_libraries

    prepare()
    freeze_libraries()


# Of docs/modern.md. The other published variants are those that were trained on a GPU, too.
MODERN = {"cnn_8_one_cycle", "cnn_9_bfloat16", "cnn_10_deeper", "cnn_11_augmented", "cnn_2020s"}


@pytest.fixture(scope="session")
def committed_study() -> Params:
    """params.yaml of this checkout; tests that ask for it are skipped where it is not the published study."""
    found = params.load(ROOT / params.PARAMS)
    published = params.load(ROOT / "benchmarks/gpu/study" / params.PARAMS)
    if found.data != published.data or set(found.variants) != published.variants.keys() | MODERN:
        pytest.skip("params.yaml is not the published study, but one with other data or variants")
    return found


@pytest.fixture(scope="session")
def study() -> Params:
    return params.parse(STUDY, "the tests' study")


Made = Callable[[str, Callable[[Path], None]], Path]


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A function that returns a folder by its name, which the first test process that asks for it has made."""
    processes = tmp_path_factory.getbasetemp()
    shared = processes.parent if "PYTEST_XDIST_WORKER" in os.environ else processes

    def made_once(name: str, make: Callable[[Path], None]) -> Path:
        folder, finished = shared / name, shared / f"{name}.finished"
        with FileLock(shared / f"{name}.lock"):
            if not finished.exists():
                shutil.rmtree(folder, ignore_errors=True)  # of a process that failed
                make(folder)
                finished.touch()
        return folder

    return made_once


@pytest.fixture(scope="session")
def split_study(made_once: Made, study: Params) -> Path:
    """A study folder after the stages fetch and split, which tests must not change."""
    from stages.fetch.stage import fetch
    from stages.split.stage import split

    def make(folder: Path) -> None:
        folder.mkdir()
        (folder / "params.yaml").write_text(STUDY)
        shutil.copy(ROOT / "requirements.lock", folder)
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            fetch(study.data)
            split(study.split.dev_fraction, study.split.seeds)

    return made_once("split_study", make)


@pytest.fixture(scope="session")
def evaluated_study(made_once: Made, split_study: Path, study: Params, tensorflow_ready: None) -> Path:
    """The same after the stages train and evaluate, which tests must not change."""
    from stages.evaluate.stage import evaluate
    from stages.train.dispatch import train_all
    from stages.train.plan import plan
    from stages.train.stage import gather

    def make(folder: Path) -> None:
        shutil.copytree(split_study, folder)
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            patch.setenv("STUDY_WORKERS", "1")  # in this process, which has imported TensorFlow already
            images, labels = read_images(paths.TRAIN)
            runs = plan(study, list(study.variants), images, labels, CLASSES)
            train_all(runs, images, labels, on_finish=lambda variant, seed: None)
            for variant, recipe in study.variants.items():
                gather(variant, recipe)
                evaluate(study, variant)

    return made_once("evaluated_study", make)


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    """A headless Chromium that records the console messages of pages."""
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    driver = shutil.which("chromedriver")
    if program is None or driver is None:
        pytest.skip("no Chromium and chromedriver here")
    options = ChromeOptions()
    options.binary_location = program
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for flag in ("headless", "no-sandbox", "no-first-run", "hide-scrollbars"):
        options.add_argument(f"--{flag}")
    for feature in ("gpu", "quic", "background-networking", "component-update", "sync"):
        options.add_argument(f"--disable-{feature}")
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('browser')}")
    with Chrome(options, ChromeService(driver)) as chrome:
        yield chrome


@pytest.fixture(scope="session")
def aggregated_study(made_once: Made, evaluated_study: Path, study: Params) -> Path:
    """The same after the stage aggregate, which tests must not change."""
    from stages.aggregate.stage import aggregate
    from stages.ledger.stage import update

    def make(folder: Path) -> None:
        shutil.copytree(evaluated_study, folder)
        shutil.copy(ROOT / "pyproject.toml", folder)
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            update(study)
            aggregate(study)

    return made_once("aggregated_study", make)


@pytest.fixture(scope="session")
def empty_database(made_once: Made) -> Path:
    """An MLflow database without runs. It takes seconds to create, so tests copy it."""
    import mlflow

    def make(folder: Path) -> None:
        folder.mkdir()
        mlflow.MlflowClient(tracking_uri=f"sqlite:///{folder}/mlflow.db").search_experiments()

    return made_once("mlflow", make) / "mlflow.db"


@pytest.fixture(scope="session")
def published_study(made_once: Made, aggregated_study: Path, empty_database: Path, study: Params) -> Path:
    """`aggregated_study` published to its local database, which tests must not change."""
    from stages.tracking import address
    from stages.tracking.publisher import Publisher

    def make(folder: Path) -> None:
        shutil.copytree(aggregated_study, folder)
        shutil.copy(empty_database, folder / address.DATABASE)
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            publisher = Publisher(study)
            publisher.publish_variants(list(study.variants))
            publisher.publish_study()
            assert not publisher.failed

    return made_once("published_study", make)


@pytest.fixture(scope="session")
def finished_clone(made_once: Made) -> Clone:
    """A clone with the study of `tests.support.pipeline` after `dvc repro`, committed; tests must not change it."""

    def make(folder: Path) -> None:
        clone = Clone.make(folder)
        clone.repro()
        clone.commit("A study of three variants")

    return Clone(made_once("finished_clone", make))


@pytest.fixture
def workspace(split_study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of `split_study` as the current folder."""
    return _copy(split_study, tmp_path, monkeypatch)


@pytest.fixture
def evaluated(evaluated_study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of `evaluated_study` as the current folder."""
    return _copy(evaluated_study, tmp_path, monkeypatch)


@pytest.fixture
def aggregated(aggregated_study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of `aggregated_study` as the current folder."""
    return _copy(aggregated_study, tmp_path, monkeypatch)


@pytest.fixture
def published(published_study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of `published_study` as the current folder, as if it had been published there; MLflow reads from it."""
    from mlflow.tracking._tracking_service import utils

    from stages.tracking import address

    # MLflow remembers the folders of runs by their IDs, which are the same in every copy.
    monkeypatch.setattr(utils, "_artifact_repos_cache", OrderedDict())
    copy = _copy(published_study, tmp_path, monkeypatch)
    monkeypatch.setenv(address.TRACKING_URI, address.tracking_uri())
    moved = (published_study.as_uri(), copy.as_uri())
    with contextlib.closing(sqlite3.connect(address.DATABASE)) as connection, connection:
        connection.execute("UPDATE experiments SET artifact_location = replace(artifact_location, ?, ?)", moved)
        connection.execute("UPDATE runs SET artifact_uri = replace(artifact_uri, ?, ?)", moved)
    return copy


@pytest.fixture(scope="session")
def digits(split_study: Path) -> tuple[np.ndarray, np.ndarray]:
    """The training images uint8 [1437, 28, 28] and labels uint8 [1437]."""
    return read_images(split_study / paths.TRAIN)


def _copy(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    copy = tmp_path / "study"
    shutil.copytree(folder, copy)
    monkeypatch.chdir(copy)
    return copy
