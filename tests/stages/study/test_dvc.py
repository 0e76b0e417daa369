"""dvc.lock, read as DVC reads it."""

import io
from typing import Any

import pytest
from ruamel.yaml import YAML

from many_seeds.errors import UserError
from stages.study import dvc
from tests import ROOT


def test_values_are_those_that_dvc_reads() -> None:
    values: list[Any] = [1e-05, 1e16, -0.0, "1e-05", "yes", "off", True, None, "null", "010", "0o17", "1:30", "1_000"]
    values += ["2020-01-01", "", "<<", "é: x", {"a": [1, 2.5]}, 10**20]
    text = io.StringIO()
    YAML().dump({"stages": {"train": {"params": values}}}, text)
    assert repr(dvc._stages(text.getvalue(), "dvc.lock")["train"]["params"]) == repr(values)
    lock = ROOT / "dvc.lock"
    assert dvc.recorded(lock) == YAML(typ="safe").load(lock.read_text(encoding="utf-8"))["stages"]


@pytest.mark.parametrize("text", ["stages: {a: {}, a: {}}", "stages: [", "stages: {a: 2020-13-01}"])
def test_a_damaged_file_is_an_error(text: str) -> None:
    with pytest.raises(UserError, match=r"dvc\.lock is not valid YAML"):
        dvc._stages(text, "dvc.lock")
