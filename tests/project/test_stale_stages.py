"""What an edit of code, parameters or packages makes stale, in fresh clones of a finished study."""

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from dvc.repo import Repo

from stages.study import files, params, paths
from stages.study.provenance.environments import CERTIFIED, CERTIFIED_COLUMNS, CODE
from stages.study.provenance.identities import variant_identity
from tests.support.pipeline import NETWORK, SEEDS, STUDY, Clone, add_line, stages_run, variants_with


@pytest.fixture
def fresh(finished_clone: Clone, tmp_path: Path) -> Clone:
    """A clone by git of a study with committed results, without data and models."""
    return finished_clone.git_clone(tmp_path / "fresh")


@pytest.mark.slow
def test_a_fresh_clone_without_models_trains_a_new_variant_only(finished_clone: Clone, fresh: Clone) -> None:
    fresh.write({**STUDY, "variants": {**STUDY["variants"], "mlp_narrow": {**NETWORK, "units": [8]}}})
    fresh.repro("split")
    ran = stages_run(fresh.repro("--allow-missing"))
    assert set(ran) == {"code", "ledger", "train@mlp_narrow", "evaluate@mlp_narrow", "aggregate"}
    summaries = [json.loads((each.folder / paths.SUMMARY).read_text()) for each in (finished_clone, fresh)]
    assert summaries[1].pop("mlp_narrow")["seeds"] == SEEDS
    assert summaries[0] == summaries[1]


def stale(clone: Clone) -> set[str]:
    """The stages of a fresh clone whose code, parameters or inputs are not those of their results."""
    with Repo(str(clone.folder)) as repo:
        status = repo.status()
    return {
        stage.rpartition(":")[2]  # below another folder than the current one, names have the path of dvc.yaml
        for stage, changes in status.items()
        for kinds in changes
        for state in (kinds.get("changed deps") or {}).values()
        if state != "deleted"  # which is not here, and is not asked for
    }


def stale_by_code(clone: Clone) -> set[str]:
    """The same after the stage `code` has run."""
    assert stages_run(clone.repro("code")) in ([], ["code"])
    return stale(clone)


def of_variants(*stages: str) -> set[str]:
    return {f"{stage}@{variant}" for stage in stages for variant in STUDY["variants"]}


def test_in_a_fresh_clone_nothing_is_stale(fresh: Clone) -> None:
    assert stale(fresh) == set()
    assert stages_run(fresh.repro("--dry", "--allow-missing")) == []


def test_in_a_fresh_clone_stale_names_the_stale_stages_and_the_reasons(fresh: Clone) -> None:
    assert "Nothing is stale" in fresh.run(sys.executable, "-m", "tools.stale").stdout
    add_line(fresh, "stages/recipes/ridge.py")
    lock = (fresh.folder / "dvc.lock").read_bytes()
    printed = fresh.run(sys.executable, "-m", "tools.stale").stdout
    assert "train@linear: made in another environment: the code in stages/recipes" in printed
    assert "Also stale if their results change: evaluate@linear, aggregate" in printed
    assert "make certify" in printed
    assert "train@mlp" not in printed
    assert (fresh.folder / "dvc.lock").read_bytes() == lock


def test_edits_that_decide_no_result_make_nothing_stale(fresh: Clone) -> None:
    """Of schedulers, tracking, tools and shared modules, all at once."""
    decisive = {"recipes", "ledger", "aggregate", "fetch", "split"}
    found_files = sorted((fresh.folder / "stages").rglob("*.py"))
    names = [str(path.relative_to(fresh.folder)) for path in found_files]
    files_of_results = {"stages/evaluate/outputs.py", "stages/evaluate/scores.py"}
    files_of_results |= {f"stages/study/{name}.py" for name in ("comparisons", "races", "scores")}
    files_of_results |= {f"stages/study/records/{name}.py" for name in ("data_summary", "ledger_files", "seen")}
    files_of_results.add("stages/study/provenance/identities.py")
    edited = [name for name in names if name.split("/")[1] not in decisive and name not in files_of_results]
    assert {"stages/train/dispatch.py", "stages/evaluate/__main__.py", "stages/tracking/runs.py"} <= set(edited)
    add_line(fresh, *edited)
    assert "Nothing is stale" in fresh.run(sys.executable, "-m", "tools.stale").stdout
    assert stale(fresh) == {"code"}  # which takes a second, and finds nothing new
    assert stages_run(fresh.repro("--allow-missing")) == ["code"]
    assert stages_run(fresh.repro("--dry", "--allow-missing")) == []


@pytest.mark.parametrize(
    ("edited", "expected"),
    [
        (["stages/recipes/ridge.py"], {"train@linear"}),
        (["stages/recipes/network.py", "stages/recipes/shared/augmentation.py"], {"train@mlp", "train@cnn"}),
        (["stages/recipes/shared/training.py", "stages/evaluate/scores.py"], of_variants("train", "evaluate")),
        (["stages/aggregate/report/page.py"], {"aggregate"}),
        (["stages/study/comparisons.py", "many_seeds/statistics/intervals.py"], {"ledger", "aggregate"}),
        (["many_seeds/ledger.py"], {"ledger", "aggregate"}),
    ],
)
def test_an_edit_of_code_makes_the_results_stale_that_it_decides(
    edited: list[str], expected: set[str], fresh: Clone
) -> None:
    add_line(fresh, *edited)
    printed = fresh.run(sys.executable, "-m", "tools.stale").stdout
    assert {line.partition(":")[0] for line in printed.splitlines() if re.match(r"\w+(@\w+)?: ", line)} == expected
    assert stale_by_code(fresh) == expected


def test_an_edited_comment_in_code_that_decides_results_runs_the_stage_code_only(fresh: Clone) -> None:
    edited = ["stages/recipes/ridge.py", "stages/recipes/shared/fit.py", "stages/evaluate/scores.py"]
    add_line(fresh, *edited, line="# one more comment")
    assert stages_run(fresh.repro("--dry", "--allow-missing")) == ["code"]
    assert stages_run(fresh.repro("--allow-missing")) == ["code"]
    assert stale(fresh) == set()


def test_a_certificate_keeps_the_results_of_one_variant_only(fresh: Clone) -> None:
    add_line(fresh, "stages/recipes/shared/training.py")
    code = fresh.folder / CODE
    made = files.yaml_values(code.read_text(), "before")["train"]
    assert stale_by_code(fresh) == of_variants("train")
    here = files.yaml_values(code.read_text(), "after")["train"]
    study = params.load(fresh.folder / "params.yaml")
    row = (
        "mlp",
        variant_identity(study.recipe("mlp"), study),
        "train",
        here["mlp"],
        made["mlp"],
        1,
        SEEDS,
        "a processor",
        "here",
        "f" * 40,
    )
    files.write_table(fresh.folder / CERTIFIED, pd.DataFrame([row], columns=CERTIFIED_COLUMNS))
    assert stale_by_code(fresh) == {"train@linear", "train@cnn", "aggregate"}  # the report names the certificate
    files.write_table(fresh.folder / CERTIFIED, pd.DataFrame(columns=CERTIFIED_COLUMNS))
    assert stale_by_code(fresh) == of_variants("train")


def locked_keras(clone: Clone) -> str:
    (version,) = re.findall("^keras==(.*)$", (clone.folder / "requirements.lock").read_text(), re.MULTILINE)
    return str(version)


def test_another_locked_version_makes_every_variant_stale_and_stale_names_it(fresh: Clone) -> None:
    path, kept = fresh.folder / "requirements.lock", locked_keras(fresh)
    path.write_text(path.read_text().replace(f"keras=={kept}", "keras==9.9.9"))
    printed = fresh.run(sys.executable, "-m", "tools.stale").stdout
    assert stages_run(fresh.repro("--dry", "--allow-missing")) == ["code"]
    for stage in of_variants("train", "evaluate"):
        assert f"{stage}: made in another environment: keras {kept} → 9.9.9\n" in printed
    assert "`make certify` checks a sample" in printed
    assert stale_by_code(fresh) == of_variants("train", "evaluate")


@pytest.fixture
def other_keras(fresh: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clone:
    """The fresh clone with its data, with the metadata of another version of Keras."""
    fresh.repro("split")
    (tmp_path / "site").mkdir()
    (tmp_path / "site/sitecustomize.py").write_text(
        "import importlib.metadata\n"
        "version = importlib.metadata.version\n"
        "importlib.metadata.version = lambda name: '9.9.9' if name == 'keras' else version(name)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    return fresh


@pytest.mark.slow
def test_another_installed_version_is_named_and_no_results_are_mixed(other_keras: Clone) -> None:
    change = f"trained in another environment than this one (keras {locked_keras(other_keras)} → 9.9.9)"
    printed = other_keras.run(sys.executable, "-m", "tools.stale").stdout
    assert f"linear, mlp, cnn: {change}" in printed
    assert "`make setup` installs the packages of requirements.lock" in printed
    assert "`dvc repro --force` trains them again" in printed
    plan = other_keras.run(sys.executable, "-m", "tools.settle", "--plan")
    assert plan.returncode == 0, plan.stderr
    assert plan.stdout.startswith("No seed would be added:\n")
    refused = other_keras.run(sys.executable, "-m", "tools.settle")
    assert refused.returncode == 1
    for text in (plan.stdout, refused.stderr):
        assert change in text
        assert "make certify" in text
        assert "--pairs" not in text  # the packages of every comparison are others
    trained = other_keras.run("sh", "-c", f"{sys.executable} -m stages.train linear 2>&1").stdout
    assert trained.index(f"linear: {change}, and now anew") < trained.index("[1/2]")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"seeds": 8}, {"ledger", "train@mlp", "evaluate@mlp", "aggregate"}),
        ({"augment": {"shift": 2.0}, "dropout": 0.25}, {"ledger", "train@mlp", "aggregate"}),
    ],
    ids=["seeds", "other fields"],
)
def test_more_seeds_or_another_field_make_only_their_variant_stale(
    changes: dict[str, Any], expected: set[str], fresh: Clone
) -> None:
    fresh.write({**STUDY, "variants": variants_with("mlp", **changes)})
    assert stale_by_code(fresh) == expected


def test_a_new_family_makes_only_its_variant_stale(fresh: Clone) -> None:
    shutil.copy(fresh.folder / "stages/recipes/network.py", fresh.folder / "stages/recipes/mine.py")
    assert stale_by_code(fresh) == set()
    fresh.write({**STUDY, "variants": {**STUDY["variants"], "mine": {**NETWORK, "family": "mine"}}})
    assert stale_by_code(fresh) == {"ledger", "train@mine", "evaluate@mine", "aggregate"}
