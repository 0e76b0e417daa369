"""Which executor trains a run on a machine."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from many_seeds.errors import UserError
from stages.recipes.network import Recipe as Network
from stages.study.provenance import families
from stages.train import executors
from stages.train.executors import batched_seeds
from tests.support.recipes import NETWORK, network, ridge


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    with_no_gpu = executors.EXECUTORS["lanes"]._replace(selected=lambda: False)
    monkeypatch.setitem(executors.EXECUTORS, "lanes", with_no_gpu)


def test_a_machine_without_settings_and_gpu_trains_in_processes() -> None:
    assert executors.name_for(network()) == executors.name_for(ridge()) == "processes"


def test_a_scheduler_in_the_environment_selects_dask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", "tcp://127.0.0.1:8786")
    assert executors.name_for(network()) == "dask"


def test_a_gpu_trains_keras_models_and_processes_train_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(executors.EXECUTORS, "lanes", executors.EXECUTORS["lanes"]._replace(selected=lambda: True))
    assert executors.name_for(network()) == "lanes"
    assert executors.name_for(ridge()) == "processes"


class WithOwnFit(Network):
    """A family with a training loop of its own."""

    def fit(self, *arguments: Any, **options: Any) -> Any:
        raise NotImplementedError


class WithOwnBuild(Network):
    """A family with the training loop of all Keras models."""

    def build(self, *arguments: Any) -> Any:
        raise NotImplementedError


def test_a_family_that_overrides_fit_is_trained_by_its_own_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batched seeds never call it: they would train the family as if it had none."""
    monkeypatch.setenv("STUDY_EXECUTOR", "lanes")
    assert executors.name_for(WithOwnFit.model_validate(NETWORK)) == "processes"
    assert executors.name_for(WithOwnBuild.model_validate(NETWORK)) == "lanes"


def test_an_executor_can_be_selected_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUDY_EXECUTOR", "lanes")
    assert executors.name_for(network()) == "lanes"
    assert executors.name_for(ridge()) == "processes"
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", "tcp://127.0.0.1:8786")
    monkeypatch.setenv("STUDY_EXECUTOR", "processes")
    assert executors.name_for(network()) == "processes"


def test_the_error_for_an_unknown_executor_lists_all_executors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUDY_EXECUTOR", "slurm")
    with pytest.raises(UserError, match="STUDY_EXECUTOR should be one of dask, lanes, processes, received 'slurm'"):
        executors.name_for(network())


def test_only_an_executor_that_decides_bits_is_part_of_the_key() -> None:
    assert executors.code_digest("processes") is executors.code_digest("dask") is None
    assert executors.code_digest(batched_seeds.NAME) == families.source_digest(batched_seeds.code_files())


def test_the_code_of_an_added_executor_is_part_of_the_key_if_it_names_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = ModuleType("added_executor")
    code = tmp_path / "loop.py"
    code.write_text("STEPS = 1\n")
    module.code_files = lambda: [code]  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "added_executor", module)
    monkeypatch.setitem(executors.EXECUTORS, "added", executors.Entry(lambda: True, "added_executor", "cpu"))
    before = executors.code_digest("added")
    assert before is not None
    code.write_text("STEPS = 2\n")
    assert executors.code_digest("added") not in {before, None}
