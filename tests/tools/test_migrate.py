"""The results of a small study of version 1, migrated to version 2."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from ruamel.yaml import YAML

from many_seeds.errors import UserError
from stages.study import dvc, files, params, paths
from stages.study.comparisons import named_pairs
from stages.study.params import Params
from stages.study.provenance import environments, families
from stages.study.provenance.environments import CERTIFIED, CODE, Environment
from stages.study.provenance.identities import variant_identity
from stages.study.records.ledger_files import read_ledger
from stages.train.run import run_key
from tests import ROOT
from tests.support.pipeline import Clone, stages_run
from tools import stale
from tools.certify.certificates import append
from tools.migrate.checks import check_not_stale
from tools.migrate.origin import find_origin
from tools.migrate.run import is_migrated, migrate
from tools.migrate.version_1 import Version1, extracted, find_commit

VARIANTS = ["ridge", "random_features", "plain", "watched"]


def old_pipeline() -> dict[str, Any]:
    """dvc.yaml of version 1: stages depend on folders of code, and there is no stage `code`."""
    pipeline = dict(YAML(typ="safe").load((ROOT / "dvc.yaml").read_text(encoding="utf-8")))
    stages = pipeline["stages"]
    del stages["code"], stages["ledger"]
    stages["aggregate"]["deps"].remove("metrics/comparisons.csv")
    for name, code in (("train", "stages/recipes/shared"), ("evaluate", "stages/evaluate")):
        stage = stages[name]["do"]
        stage["deps"] += [code, "stages/recipes/${item.family}.py"]
        stage["params"] = [entry for entry in stage["params"] if isinstance(entry, str)]
    evaluate = stages["evaluate"]["do"]
    evaluate["outs"] = [out for out in evaluate["outs"] if not any("environments.csv" in path for path in out)]
    return pipeline


def make_old(folder: Path) -> None:
    """Turn a study into one of version 1: its pipeline, its files of code and the files of its evaluation."""
    with (folder / "dvc.yaml").open("w", encoding="utf-8") as file:
        YAML().dump(old_pipeline(), file)
    evaluate = folder / "stages/evaluate"
    sources = [(evaluate / name).read_text(encoding="utf-8") for name in ("__main__.py", "outputs.py")]
    (evaluate / "__main__.py").write_text("\n".join(sources), encoding="utf-8")
    (evaluate / "outputs.py").unlink()
    shutil.copytree(folder / "stages/train/executors/batched_seeds", folder / "stages/train/executors/lanes")
    for path in (paths.SEEN, paths.COMPARISONS):  # version 1 had no ledger
        (folder / path).unlink()
    code = families.source_digest(sorted(evaluate.glob("*.py")))
    for variant, recipe in params.load(folder / "params.yaml").variants.items():
        set_keys(folder, variant, recipe)
        path = folder / paths.predictions_path(variant)
        files.write_arrays(path, compressed=True, **files.read_arrays(path), code=np.array(code))
        (folder / paths.environments_path(variant)).unlink()


def set_keys(folder: Path, variant: str, recipe: params.Recipe) -> None:
    """Give a variant's runs the keys of version 1, whose digests of code have another form."""
    recipes, path = folder / "stages/recipes", folder / paths.scores_path(variant)
    code = families.source_digest([*sorted(recipes.glob("shared/*.py")), recipes / f"{recipe.family}.py"])
    table = pd.read_csv(path, dtype=str)
    for row, seed in enumerate(table["seed"].astype(int)):
        run = folder / paths.run_path(variant, seed) / "run.json"
        facts = files.read_json(run)
        facts["digests"]["code"] = code
        facts["key"] = run_key(variant, recipe, seed, facts["digests"], facts["versions"])
        table.loc[row, "key"] = facts["key"]
        run.write_bytes(files.json_bytes(facts))
    table.to_csv(path, index=False)


def certify(study: Params) -> None:
    """Certify that today's code makes the bits of version 1, as `make certify` does."""
    for variant, recipe in study.variants.items():
        made = Environment.parse(pd.read_csv(paths.environments_path(variant))["environment"][0])
        identity = variant_identity(recipe, study)
        append(variant, identity, "train", environments.installed("train", recipe.family), made, [0], 2, "trained here")


def make_new(folder: Path) -> None:
    """Copy the code of version 2 over that of version 1."""
    shutil.copytree(ROOT / "stages/evaluate", folder / "stages/evaluate", dirs_exist_ok=True)
    shutil.copy(ROOT / "dvc.yaml", folder)


def back_to_version_1(clone: Clone) -> None:
    checked(clone.run("git", "checkout", "--quiet", "--", "."))
    checked(clone.run("git", "clean", "-fdq"))


def checked(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def version_1(tmp_path_factory: pytest.TempPathFactory, aggregated_study: Path) -> Clone:
    """A committed study of version 1, with its models, and the code of version 2 over it, not yet committed."""
    clone = Clone.make(tmp_path_factory.mktemp("version_1"))
    shutil.copytree(aggregated_study, clone.folder, dirs_exist_ok=True)
    make_old(clone.folder)
    checked(clone.run("dvc", "commit", "--force", "--quiet"))
    assert not stale.reasons(stale.status(params.load(clone.folder / "params.yaml"), clone.folder))
    clone.commit("Results of version 1")
    make_new(clone.folder)
    return clone


@pytest.fixture
def old(version_1: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clone:
    """A copy of it for one test, as the current folder."""
    clone = version_1.copy(tmp_path / "study")
    monkeypatch.chdir(clone.folder)
    return clone


@pytest.fixture
def unchanged(old: Clone) -> Callable[[], bool]:
    """A function that returns whether dvc.lock and metrics are unchanged."""

    def state() -> str:
        listed = sorted(path for path in Path("metrics").rglob("*") if path.is_file())
        unfinished = [path.name for path in Path().glob(".dvc.lock*")]
        return files.digest(*(path.read_bytes() for path in [Path("dvc.lock"), *listed]), str(listed), str(unfinished))

    before = state()
    return lambda: state() == before


def labels(folder: Path) -> list[bytes]:
    return [files.read_arrays(folder / paths.predictions_path(name), "labels")["labels"].tobytes() for name in VARIANTS]


def test_a_migrated_study_is_not_stale_and_nothing_is_trained_again(old: Clone) -> None:
    models, predicted = old.model_digests(), labels(old.folder)
    shutil.copy(ROOT / paths.COMPARISONS, paths.COMPARISONS)  # as a merge of version 2 does
    output = checked(old.run(sys.executable, "-m", "tools.migrate"))
    assert "Migrated 8 runs of 4 variant(s)" in output
    assert "train, the code in stages/recipes: ridge, random" in output
    assert "Next: `make certify`, which" in output
    assert "evaluate, " not in output
    assert "Written: metrics/comparisons.csv, " in output
    assert ".dvc.lock" not in output
    for variant in VARIANTS:
        table = pd.read_csv(paths.environments_path(variant))
        facts = [files.read_json(paths.run_path(variant, seed) / "run.json") for seed in (0, 1)]
        assert table["model"].tolist() == [fact["digests"]["model"] for fact in facts]
        assert [Environment.parse(text).code for text in table["environment"]] == [
            fact["digests"]["code"] for fact in facts
        ]
    certify(params.load())
    assert stages_run(old.repro("--allow-missing")) == ["code", "aggregate"]
    rows = read_ledger()
    assert {(row.batch, row.from_seed, row.withdrawn) for row in rows} == {(1, 0, "")}
    assert len(rows) == len(named_pairs(params.load()))
    assert stages_run(old.repro("--dry")) == []
    assert old.model_digests() == models
    assert labels(old.folder) == predicted
    assert "already migrated" in checked(old.run(sys.executable, "-m", "tools.migrate"))


def test_missing_models_stay_recorded_and_are_not_needed(old: Clone) -> None:
    before = dvc.recorded()
    for gone in ("models", "data/raw", ".dvc/cache"):
        shutil.rmtree(gone)
    old.commit("The code of version 2")
    migrate(None)
    after = dvc.recorded()
    for name in (f"train@{variant}" for variant in VARIANTS):
        assert after[name]["outs"] == before[name]["outs"]
    assert set(pd.read_csv(paths.environments_path("plain"))["model"]) == {"not recorded"}
    certify(params.load())
    assert stages_run(old.repro("--allow-missing", "code")) == ["code"]
    assert stages_run(old.repro("--dry", "--allow-missing")) == ["aggregate"]


def test_a_killed_migration_leaves_the_lock_and_can_be_repeated(old: Clone) -> None:
    lock = Path("dvc.lock").read_bytes()
    killed = (
        "import os; from dvc.dvcfile import Lockfile; from tools.migrate.run import migrate; "
        "Lockfile.dump_stages = lambda *_: os.kill(os.getpid(), 9); migrate(None)"
    )
    assert old.run(sys.executable, "-c", killed).returncode == -signal.SIGKILL
    assert Path("dvc.lock").read_bytes() == lock
    assert paths.environments_path("plain").exists(), "it was killed before it had written anything"
    migrate(None)
    assert is_migrated(params.load())


def test_a_failed_migration_leaves_the_lock_and_no_temporary_file(old: Clone, monkeypatch: pytest.MonkeyPatch) -> None:
    from dvc.dvcfile import Lockfile

    def full(*_: Any) -> None:
        raise OSError(28, os.strerror(28))

    lock = Path("dvc.lock").read_bytes()
    monkeypatch.setattr(Lockfile, "dump_stages", full)
    with pytest.raises(UserError, match=r"dvc\.lock can't be written: No space"):
        migrate(None)
    assert Path("dvc.lock").read_bytes() == lock
    assert list(Path().glob(".dvc.lock*")) == []


def test_stale_results_are_an_error(old: Clone, unchanged: Callable[[], bool]) -> None:
    back_to_version_1(old)
    with Path("stages/recipes/network.py").open("a", encoding="utf-8") as file:
        file.write("\nUNUSED = 1\n")
    old.commit("An edit, whose results are still missing")
    make_new(old.folder)
    with pytest.raises(UserError, match=r"(?s)do not:\n  train@plain: stages/recipes/network\.py is mod.*`dvc repro`"):
        migrate(None)
    assert unchanged()


def test_results_that_differ_from_the_commit_are_an_error(old: Clone) -> None:
    path = paths.scores_path("plain")
    path.write_text(path.read_text(encoding="utf-8").replace("0,", "0,f", 1), encoding="utf-8")
    with pytest.raises(UserError, match=r"metrics/runs/plain/test\.csv\. `git rm -rfq metrics && git"):
        migrate(None)


def test_a_key_that_does_not_follow_from_known_packages_is_an_error(old: Clone, unchanged: Callable[[], bool]) -> None:
    """As of a run that was trained with packages that are neither locked nor installed."""
    path = paths.scores_path("plain")
    back_to_version_1(old)
    table = pd.read_csv(path, dtype=str)
    table.loc[1, "key"] = "f" * 64
    table.to_csv(path, index=False)
    checked(old.run("dvc", "commit", "--force", "--quiet", "evaluate@plain", "aggregate"))
    old.commit("A key")
    make_new(old.folder)
    with pytest.raises(UserError, match=r"(?s)plain/test\.csv.*seed\(s\) 1 follow from none of.*keras="):
        migrate(None)
    assert not paths.environments_path("ridge").exists()


def test_models_that_differ_from_the_recorded_ones_are_an_error(old: Clone, unchanged: Callable[[], bool]) -> None:
    path = paths.run_path("plain", 0) / "model.keras"
    path.write_bytes(path.read_bytes() + b"0")
    with pytest.raises(UserError, match="different are models/plain: move them away"):
        migrate(None)
    assert unchanged()


def test_scores_that_version_1_computed_in_another_way_are_an_error(
    old: Clone, unchanged: Callable[[], bool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = (ROOT / "stages/evaluate/scores.py").read_text(encoding="utf-8")
    edited = tmp_path / "scores.py"
    edited.write_text(source.replace("CALIBRATION_BINS = 15", "CALIBRATION_BINS = 20"), encoding="utf-8")
    monkeypatch.setattr(environments, "SCORING", [edited])
    with pytest.raises(UserError, match=r"stages/evaluate/scores\.py should be in .*; 1 are missing"):
        migrate(None)
    assert unchanged()


def test_missing_validation_splits_are_an_error_with_the_command_that_makes_them(
    old: Clone, unchanged: Callable[[], bool]
) -> None:
    paths.DEV.unlink()
    with pytest.raises(UserError, match="`dvc repro split`"):
        migrate(None)
    assert unchanged()


def test_results_of_another_environment_are_stale_afterwards(
    old: Clone,
) -> None:
    """As after an update of a package."""
    lock = Path("requirements.lock")
    keras = environments.locked_versions()["keras"]
    lock.write_text(lock.read_text(encoding="utf-8").replace(f"keras=={keras}", "keras==99.0"), encoding="utf-8")
    assert f"keras {keras} → 99.0: ridge, random_features, plain, watched" in migrate(None)
    assert f"keras={keras}" in CODE.read_text(encoding="utf-8")
    assert "code" not in dvc.recorded()
    found = stale.reasons(stale.status(params.load()))
    for stage in ("train@plain", "evaluate@plain"):
        assert any(f"keras {keras} → 99.0" in reason for reason in found[stage]), found[stage]
    checked(old.run("dvc", "repro", "-s", "code"))
    assert set(stages_run(old.repro("--dry"))) >= {
        f"{stage}@{name}" for stage in ("train", "evaluate") for name in VARIANTS
    }


def test_a_run_of_a_gpu_has_an_executor_and_was_evaluated_with_tensorflow(old: Clone) -> None:
    recipe, path = params.load().recipe("plain"), paths.scores_path("plain")
    table = pd.read_csv(path)
    with extracted(find_commit(None)) as version_1:
        gpu = next(packages for packages in version_1.packages if packages.executor)
        assert gpu.executor is not None
        digests = {"code": version_1.code_digest("network"), "executor": gpu.executor}
        table["key"] = [
            run_key("plain", recipe, seed, {"data": data, **digests}, gpu.versions)
            for seed, data in zip(table["seed"].tolist(), table["data"], strict=True)
        ]
        table.to_csv(path, index=False)
        origin = find_origin("plain", recipe, version_1)
    trained, evaluated = (Environment.parse(origin.rows[name][0]) for name in ("environment", "evaluation"))
    assert trained == Environment(digests["code"], gpu.versions, gpu.executor)
    assert "jax" in trained.versions
    assert "tensorflow" in evaluated.versions
    assert origin.environments["train"] == Environment(digests["code"], evaluated.versions), (
        "as the stage `code` writes it"
    )
    assert origin.rows["model"].tolist() == ["not recorded"] * 2, "the models here are others"


def test_custom_data_that_are_not_in_git_are_not_stale(monkeypatch: pytest.MonkeyPatch, study: Params) -> None:
    status = {"fetch": [{"changed deps": {"own": "modified"}}]}
    monkeypatch.setattr(stale, "status", lambda study, folder: status)
    check_not_stale(study, Version1("", Path(), []))


def test_the_last_commit_of_version_1_is_found_before_those_of_version_2(old: Clone) -> None:
    first = checked(old.run("git", "rev-parse", "HEAD")).strip()
    old.commit("The code of version 2")
    Path("notes").write_text("", encoding="utf-8")
    old.commit("Something else")
    assert find_commit(None) == first
    assert find_commit("HEAD~2") == first
    with pytest.raises(UserError, match="received HEAD, whose"):
        find_commit("HEAD")


def test_the_documented_commands_resolve_the_conflicts_of_a_merge_and_keep_only_the_results_of_this_study(
    old: Clone,
) -> None:
    back_to_version_1(old)
    scores, deleted = paths.scores_path("plain"), paths.curves_path("ridge")
    content = scores.read_text(encoding="utf-8")
    checked(old.run("git", "switch", "--quiet", "--create", "upstream"))
    scores.write_text(content.replace("0,", "1,", 1), encoding="utf-8")
    deleted.unlink()
    files.write_table(CERTIFIED, environments.read_certificates())
    old.commit("Version 2")
    checked(old.run("git", "switch", "--quiet", "-"))
    scores.write_text(content.replace("0,", "2,", 1), encoding="utf-8")
    deleted.write_text("mine\n", encoding="utf-8")
    old.commit("My results")
    tracked = {path: path.read_bytes() for path in Path("metrics").rglob("*") if path.is_file()}
    assert old.run("git", "merge", "--no-commit", "upstream").returncode == 1
    assert checked(old.run("git", "diff", "--name-only", "--diff-filter=U"))
    document = (ROOT / "docs/migration.md").read_text(encoding="utf-8")
    (command,) = [line.removeprefix("$ ") for line in document.splitlines() if line.startswith("$ git rm")]
    checked(old.run("sh", "-c", command))
    assert checked(old.run("git", "status", "--porcelain", "metrics", "params.yaml", "dvc.lock")) == ""
    assert {path: path.read_bytes() for path in Path("metrics").rglob("*") if path.is_file()} == tracked


def test_without_a_git_repository_the_error_says_what_the_migration_needs(old: Clone) -> None:
    shutil.rmtree(".git")
    Path(".dvc/config.local").write_text("[core]\n    no_scm = true\n", encoding="utf-8")
    refused = old.run(sys.executable, "-m", "tools.migrate")
    assert refused.returncode == 1
    assert "needs a git repository with a commit of this study with version 1" in refused.stderr
    assert "fatal" not in refused.stderr
