"""A custom model as in docs/models.md: one file and a variant, through `dvc repro` on the digits."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import keras
import mlflow
import pandas as pd
import pytest
from ruamel.yaml import YAML

from stages.study import paths
from stages.study.params import Params
from tests.support.pipeline import SEEDS, STUDY, Clone, stages_run

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/models.md").read_text(encoding="utf-8")
FILE = Path("stages/recipes/residual.py")
SMALL = {"seeds": SEEDS, "filters": 4, "blocks": 1, "epochs": 2}
NOISE = ("mlp", "mlp_noisy")
ROLES = ("variant", "seed")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


def variant() -> dict[str, Any]:
    """The variant of the page, reduced to a short training."""
    example: dict[str, Any] = YAML(typ="safe").load(blocks("yaml")[0])["variants"]["residual"]
    return {**example, **SMALL}


def noisy() -> dict[str, Any]:
    """The other variant of the page, derived from the small MLP of the tests."""
    base = f"base: &mlp_tuned {json.dumps(STUDY['variants']['mlp'])}\n"
    found: dict[str, Any] = YAML(typ="safe").load(base + blocks("yaml")[2])["variants"]
    return found


AFTER = {
    **STUDY,
    "variants": {"mlp": STUDY["variants"]["mlp"], "residual": variant(), **noisy()},
    "approaches": {"MLP": "mlp", "residual": "residual"},
    "comparisons": [{"a": "mlp", "b": "residual"}],
    "chains": {},
}


@pytest.fixture(scope="module")
def clone(finished_clone: Clone, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    return finished_clone.copy(tmp_path_factory.mktemp("clone") / "study")


@pytest.fixture(scope="module")
def ran(clone: Clone) -> list[str]:
    """The stages that ran after the files and the variants were added."""
    (clone.folder / FILE).write_text(blocks("python")[0], encoding="utf-8")
    (clone.folder / "stages/recipes/noisy.py").write_text(blocks("python")[1], encoding="utf-8")
    clone.write(AFTER)
    ran = stages_run(clone.repro())
    clone.commit("A variant of each new family")
    return ran


def test_the_new_variants_are_trained_and_nothing_else_is_stale(clone: Clone, ran: list[str]) -> None:
    assert noisy() == {"mlp_noisy": {**STUDY["variants"]["mlp"], "family": "noisy", "noise": 0.1}}
    new = {f"{stage}@{name}" for stage in ("train", "evaluate") for name in ("residual", "mlp_noisy")}
    assert set(ran) == {"code", "ledger", "aggregate"} | new
    assert stages_run(clone.repro("--dry")) == []


def test_it_is_in_every_table(clone: Clone, ran: list[str]) -> None:
    tables = clone.folder / paths.TABLES
    for name in ("approaches", "variants", "scores", "curves", "variance"):
        assert "residual" in set(pd.read_csv(tables / f"{name}.csv")["variant"]), name
    assert "residual" in set(pd.read_csv(tables / "comparisons.csv")["b"])
    assert (tables / "pair_mlp_residual.csv").exists()
    assert (clone.folder / paths.PLOTS / "curves_residual.png").exists()
    assert "residual" in (clone.folder / paths.REPORT).read_text(encoding="utf-8")


def test_it_is_in_mlflow_with_its_fields(clone: Clone, ran: list[str]) -> None:
    client = mlflow.MlflowClient(f"sqlite:///{clone.folder}/mlflow.db")
    experiment = client.get_experiment_by_name("digits")
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id], "tags.variant = 'residual'")
    assert [sum(run.data.tags["role"] == role for run in found) for role in ROLES] == [1, SEEDS]
    for run in found:
        assert (run.data.params["family"], run.data.params["blocks"]) == ("residual", "1")
        assert "test_accuracy" in run.data.metrics


def test_it_is_the_served_model(clone: Clone, ran: list[str]) -> None:
    assert json.loads((clone.folder / paths.CHAMPION).read_text())["variant"] == "residual"
    registered = clone.run(sys.executable, "-m", "tools.serving.register")
    assert registered.returncode == 0, registered.stderr
    (model,) = re.findall(r"models:/\S+", registered.stdout)
    code = (
        "import mlflow, pandas, pathlib, sys\n"
        "model = mlflow.pyfunc.load_model(sys.argv[1])\n"
        "image = pathlib.Path('tools/serving/example.png').read_bytes()\n"
        "print(len(model.predict(pandas.DataFrame({'image': [image]}))['probabilities'][0]), 'probabilities')\n"
    )
    done = clone.run(sys.executable, "-c", code, model)
    assert "10 probabilities" in done.stdout, done.stderr


def test_compare_names_the_edited_field_of_its_variant(clone: Clone, ran: list[str], tmp_path: Path) -> None:
    edited = clone.copy(tmp_path / "study")
    edited.write({**AFTER, "variants": {**AFTER["variants"], "residual": {**variant(), "learning_rate": 0.01}}})
    assert stages_run(edited.repro("evaluate@residual")) == ["code", "train@residual", "evaluate@residual"]
    compared = edited.run(sys.executable, "-m", "tools.compare", "HEAD")
    assert compared.returncode == 0, compared.stderr
    assert "residual: learning_rate: 0.001 → 0.01" in compared.stdout


def edited_file(old: str, new: str) -> str:
    """The file of the page with an edit."""
    valid = blocks("python")[0]
    assert old in valid
    return valid.replace(old, new)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("def build(", "def make(", "stages/recipes/residual.py: Recipe should define build"),
        ("filters: Count", "width: Count", r"(?s)variants\.residual\.width: is missing.*filters: unknown key"),
    ],
    ids=["no build", "another field"],
)
def test_an_error_in_the_class_is_reported_and_nothing_is_trained(
    old: str, new: str, expected: str, clone: Clone, ran: list[str], tmp_path: Path
) -> None:
    edited = clone.copy(tmp_path / "study")
    (edited.folder / FILE).write_text(edited_file(old, new), encoding="utf-8")
    refused = edited.run(sys.executable, "-m", "stages.train", "residual")
    assert refused.returncode == 1
    assert re.search(expected, refused.stderr), refused.stderr
    assert "Traceback" not in refused.stderr


def test_errors_of_build_are_reported_for_each_family_before_the_first_epoch(
    clone: Clone, ran: list[str], tmp_path: Path
) -> None:
    edits = {
        "unseeded": ("HeNormal(seed=next(seeds))", "HeNormal()"),
        "narrow": ("layers.Dense(classes,", "layers.Dense(3,"),
        "raising": ("(*shape, 1)[:3]", "(7, 7, 1)"),
    }
    edited = clone.copy(tmp_path / "study")
    for name, (old, new) in edits.items():
        (edited.folder / f"stages/recipes/{name}.py").write_text(edited_file(old, new), encoding="utf-8")
    variants = {name: {**variant(), "family": name} for name in edits}
    edited.write({**AFTER, "variants": {**AFTER["variants"], **variants}})
    refused = edited.run(sys.executable, "-m", "stages.train", "--all")
    assert refused.returncode == 1
    assert "6 of 6 runs failed" in refused.stderr
    for expected in (
        r"unseeded seed 0, unseeded seed 1: .*build draws .*kernel without a seed.*seed=next\(seeds\)",
        r"narrow seed 0, narrow seed 1: .*outputs \[n, 10\], one for each class; received \(2, 3\)",
        r"raising seed 0, raising seed 1: stages/recipes/raising\.py, line 31, in build: ValueError",
    ):
        assert re.search(expected, refused.stderr), refused.stderr
    assert "Traceback" not in refused.stderr
    assert "epochs" not in refused.stderr


def test_the_comparison_of_the_page_names_a_variant_of_the_study(committed_study: Params) -> None:
    (comparison,) = YAML(typ="safe").load(blocks("yaml")[1])["comparisons"]
    assert comparison["a"] in committed_study.variants
    assert comparison["b"] == "residual"


def test_an_augmentation_in_a_family_of_its_own_is_that_of_its_variant_only(
    clone: Clone, ran: list[str], tensorflow_ready: None
) -> None:
    models = [keras.saving.load_model(clone.folder / paths.run_path(name, 0) / "model.keras") for name in NOISE]
    assert [any(layer.name == "noise" for layer in model.layers) for model in models] == [False, True]
    curves = [pd.read_csv(clone.folder / paths.curves_path(name)) for name in NOISE]
    assert not curves[0].equals(curves[1])
