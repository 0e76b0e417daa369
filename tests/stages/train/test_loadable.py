"""Models with layers of their own, loaded by a new process."""

import re
import subprocess
from pathlib import Path
from typing import Any

import keras
import pytest

from many_seeds.errors import UserError
from stages.study.params import Params
from stages.train import loadable

ROOT = Path(__file__).parents[3]
RUN = subprocess.run


@pytest.mark.usefixtures("workspace", "tensorflow_ready")
def test_a_model_with_a_class_that_only_this_process_knows_is_refused(
    study: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    @keras.saving.register_keras_serializable("hidden")
    class Hidden(keras.layers.Layer):
        def call(self, values: Any) -> Any:
            return values

    def save_here_and_load_elsewhere(command: list[str], **options: Any) -> None:
        if "save" in command:
            for name, layer in (("plain", keras.layers.Identity()), ("watched", Hidden())):
                keras.Sequential([keras.Input((2,)), layer]).save(Path(command[4]) / f"{name}.keras")
        else:
            RUN(command, **options)

    monkeypatch.setattr(subprocess, "run", save_here_and_load_elsewhere)
    monkeypatch.setattr(loadable, "_may_have_own_classes", lambda family: family == "network")
    with pytest.raises(UserError, match=r"the model of watched could be trained(?s:.*)top level of .*network\.py"):
        loadable.check_loadable(study, ["ridge", "plain", "watched"], (28, 28), 10)


def test_only_families_with_classes_of_their_own_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (ROOT / "docs/models.md").read_text(encoding="utf-8")
    residual, noisy, curved = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    for name, content in (("residual", residual), ("noisy", noisy), ("curved", curved)):
        (tmp_path / f"{name}.py").write_text(content, encoding="utf-8")
    (tmp_path / "other.py").write_text("def build():\n    import keras_hub\n", encoding="utf-8")
    monkeypatch.setattr("stages.study.provenance.families.FOLDER", tmp_path)
    monkeypatch.setattr("stages.study.provenance.families.code_files", lambda family: [tmp_path / f"{family}.py"])
    names = ("residual", "noisy", "curved", "other")
    assert [loadable._may_have_own_classes(name) for name in names] == [False, False, True, True]
    monkeypatch.undo()
    assert [loadable._may_have_own_classes(name) for name in ("network", "ridge")] == [False, False]
