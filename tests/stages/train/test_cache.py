"""Runs that are restored from DVC's cache, of which some files are damaged."""

import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from stages.study import dvc, files, paths
from stages.study.params import Params
from stages.train import cache
from stages.train.plan import finished
from tests.support.runs import content_of, planned

VARIANT = "random_features"
CACHE = Path(".dvc/cache/files/md5")


def run_dvc(*arguments: str) -> None:
    environment = {**os.environ, "DVC_NO_ANALYTICS": "true"}
    subprocess.run(dvc.command(*arguments, "--quiet"), env=environment, capture_output=True, check=True)


@pytest.fixture
def cached(evaluated: Path) -> Path:
    """A study whose models of two variants are in DVC's cache."""
    run_dvc("init", "--no-scm")
    run_dvc("add", f"models/{VARIANT}", "models/plain")
    return evaluated


def list_of(variant: str) -> Path:
    """The file of the cache that lists the files of a variant."""
    found = re.search(r"md5: (\w\w)(\w+\.dir)", Path(f"models/{variant}.dvc").read_text())
    assert found is not None
    return CACHE / found[1] / found[2]


def copy_of(path: Path) -> Path:
    """The file of the cache with the content of a file."""
    digest = hashlib.md5(path.read_bytes()).hexdigest()
    return CACHE / digest[:2] / digest[2:]


def rewrite(path: Path, content: bytes) -> None:
    """Give a file another content. It may be read-only, and share its bytes with another file."""
    path.unlink()
    path.write_bytes(content)


@pytest.mark.parametrize("content", [b'[{"key": "a', b"[1]"], ids=["truncated", "of another form"])
@pytest.mark.parametrize("name", ["run.json", ".dir"])
def test_damaged_runs_of_the_cache_are_left_out_and_the_others_are_restored(
    name: str, content: bytes, cached: Path, study: Params
) -> None:
    runs, before = planned(study, "plain", VARIANT), content_of(paths.MODELS / VARIANT)
    damaged = (
        [list_of("plain")] if name == ".dir" else [copy_of(paths.run_path("plain", seed) / name) for seed in (0, 1)]
    )
    for path in damaged:
        rewrite(path, content)
    shutil.rmtree(paths.MODELS)
    cache.restore(runs)
    assert content_of(paths.MODELS / VARIANT) == before
    assert [path.name for path in paths.MODELS.iterdir()] == [VARIANT]


def test_a_run_whose_first_copy_has_a_damaged_model_is_restored_from_the_second(cached: Path, study: Params) -> None:
    """As on a GPU, where a run that was trained twice has the same key and two models."""
    run = planned(study, VARIANT)[0]
    model, facts = (paths.run_path(VARIANT, run.seed) / name for name in ("model.keras", "run.json"))
    copies = {list_of(VARIANT): copy_of(model)}
    content = files.read_json(facts)
    content["digests"]["model"] = files.digest(b"another model")
    rewrite(model, b"another model")
    rewrite(facts, files.json_bytes(content))
    run_dvc("commit", "--force", f"models/{VARIANT}")
    copies[list_of(VARIANT)] = copy_of(model)
    first, second = (copies[name] for name in sorted(copies))
    rewrite(first, first.read_bytes()[:-1])
    shutil.rmtree(paths.MODELS)
    cache.restore([run])
    assert finished(run)
    assert model.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("name", ["model.keras", "curves.csv"])
def test_a_run_without_an_undamaged_copy_is_not_restored(name: str, cached: Path, study: Params) -> None:
    runs = planned(study, VARIANT)
    rewrite(copy_of(paths.run_path(VARIANT, 0) / name), b"")
    shutil.rmtree(paths.MODELS)
    cache.restore(runs)
    assert [path.name for path in (paths.MODELS / VARIANT).iterdir()] == ["1"]
