"""The environments of runs, certificates of environments with the same bits, and their effect on keys."""

import importlib.metadata
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from many_seeds.errors import UserError
from stages.study import files
from stages.study.provenance import environments
from stages.study.provenance.environments import CERTIFIED_COLUMNS, Environment, canonical
from stages.study.records.results import NOT_RECORDED, write_results
from stages.train.run import Run
from tests.support.recipes import network, ridge
from tests.support.results import results

VERSIONS = {"keras": "3.15.1", "numpy": "2.4.6", "scikit-learn": "1.9.0", "scipy": "1.18.0", "tensorflow": "2.22.0"}
DIGESTS = {"data": "d" * 64, "code": "c" * 64}


def environment(name: str, **versions: str) -> Environment:
    return Environment(name, VERSIONS | versions)


A, B, C, D = map(environment, "abcd")


@pytest.mark.parametrize("executor", [None, "e" * 64])
def test_the_text_of_an_environment_is_parsed_to_the_same_environment(executor: str | None) -> None:
    written = Environment("c" * 64, VERSIONS, executor)
    assert Environment.parse(str(written)) == written
    assert str(written).startswith(f"code={'c' * 64} ")
    assert list(Environment.parse(str(written)).versions) == list(VERSIONS)


@pytest.mark.parametrize("text", ["", "keras=3", "code=", "code=1 keras", "code=1 =3", "nan"])
def test_an_invalid_text_of_an_environment_is_refused(text: str) -> None:
    with pytest.raises(
        UserError, match=rf"should have the form 'code=… keras=…', received '{text}': restore it with git"
    ):
        Environment.parse(text)


def test_differences_name_the_code_the_executor_and_each_version() -> None:
    other = Environment("b", VERSIONS | {"keras": "3.15.2"}, "e")
    assert A.differences(other, "train") == ["the code in stages/recipes", "the executor", "keras 3.15.1 → 3.15.2"]
    assert other.differences(Environment("b", VERSIONS, "e"), "train") == ["keras 3.15.2 → 3.15.1"]
    assert A.differences(A, "train") == []
    (code,) = A.differences(B, "evaluate")
    assert code == "the code in stages/evaluate/outputs.py, stages/evaluate/scores.py"
    on_jax = {name: version for name, version in VERSIONS.items() if name != "tensorflow"} | {"jax": "0.11.2"}
    assert A.differences(Environment("a", on_jax), "train") == ["tensorflow 2.22.0 → none", "jax none → 0.11.2"]


IDENTITY = "1" * 64  # of digits only, which pandas would read as a number


def certificates(*pairs: tuple[Environment, Environment], part: str = "train") -> pd.DataFrame:
    how = (1, 10, "a processor", "here", "f" * 40)
    rows = [("plain", IDENTITY, part, str(one), str(same), *how) for one, same in pairs]
    return pd.DataFrame(rows, columns=CERTIFIED_COLUMNS)


@pytest.mark.parametrize(
    ("pairs", "start", "root"),
    [
        ([], A, A),
        ([(B, A)], A, A),
        ([(B, A)], B, A),
        ([(B, A), (C, B)], C, A),
        ([(C, B), (B, A)], C, A),
        ([(C, A), (D, A)], B, B),
    ],
    ids=["none", "a root", "one", "a chain", "a chain in another order", "another"],
)
def test_certificates_lead_to_the_environment_that_made_the_results(
    pairs: Sequence[tuple[Environment, Environment]], start: Environment, root: Environment
) -> None:
    assert canonical(IDENTITY, "train", start, certificates(*pairs)) == root


def test_environments_in_a_cycle_of_certificates_have_one_canonical_environment() -> None:
    """As after a merge of two branches. A leads to the cycle and is not part of it."""
    table = certificates((B, C), (C, B), (A, B), (D, A))
    assert {str(canonical(IDENTITY, "train", of, table)) for of in (A, B, C, D)} == {str(B)}
    assert canonical(IDENTITY, "train", A, certificates((A, A))) == A
    assert canonical(IDENTITY, "train", A, certificates((A, B), (A, A))) == B


def test_a_certificate_is_of_one_identity_and_part() -> None:
    table = certificates((B, A))
    assert canonical("2" * 64, "train", B, table) == B
    assert canonical(IDENTITY, "evaluate", B, table) == B


def test_damaged_certificates_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "certified.csv"
    assert list(environments.read_certificates(path).columns) == CERTIFIED_COLUMNS
    files.write_table(path, certificates())
    assert environments.read_certificates(path).empty
    files.write_table(path, certificates((B, A)))
    assert canonical(IDENTITY, "train", B, environments.read_certificates(path)) == A
    files.write_table(path, certificates((B, A)).assign(same_as="keras=3"))
    with pytest.raises(UserError, match="received 'keras=3'"):
        environments.read_certificates(path)
    path.write_text("variant,part\n")
    with pytest.raises(UserError, match="should have the columns"):
        environments.read_certificates(path)


LOCKED = """\
# by pip-compile
--extra-index-url https://example.org
absl-py==2.5.1
keras==3.15.1
    # via this project
numpy==2.3.5 ; python_full_version < '3.12'
numpy==2.4.6 ; python_full_version >= '3.12' and python_full_version < '3.100'
numpy==9.9.9 ; sys_platform == 'nowhere'
scikit-learn==1.9.0
scipy==1.18.0
tensorflow==2.22.0 ; sys_platform == 'nowhere'
tensorflow-cpu==2.22.1
"""


def test_the_locked_versions_are_those_of_this_python_and_platform(tmp_path: Path) -> None:
    import sys

    path = tmp_path / "requirements.lock"
    path.write_text(LOCKED)
    numpy = "2.4.6" if sys.version_info >= (3, 12) else "2.3.5"
    expected = VERSIONS | {"numpy": numpy, "tensorflow": "2.22.1"}
    assert environments.locked_versions(path) == expected
    path.write_text(LOCKED.replace("keras==", "keas=="))
    with pytest.raises(UserError, match="should have a version of keras: run `make lock`"):
        environments.locked_versions(path)
    path.unlink()
    with pytest.raises(UserError, match=r"requirements\.lock is missing: restore it with git"):
        environments.locked_versions(path)


def test_the_installed_versions_have_the_names_of_the_locked_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(environments.installed_versions("tensorflow")) == list(VERSIONS)
    version = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "9" if name == "keras" else version(name))
    assert environments.installed_versions("tensorflow")["keras"] == "9"
    monkeypatch.setattr(environments, "BACKEND_PACKAGES", {"tensorflow": ["not-installed-1"]})
    with pytest.raises(UserError, match="the Keras backend tensorflow is not installed: run `make setup`"):
        environments.installed_versions("tensorflow")
    monkeypatch.setattr(environments, "PACKAGES", ("keras", "not-installed-2"))
    with pytest.raises(UserError, match="training needs not-installed-2, which is not installed: run `make setup`"):
        environments.installed_versions("tensorflow")
    with pytest.raises(UserError, match="should be one of tensorflow, received 'theano'"):
        environments.installed_versions("theano")


KEYS = {  # as version 1 made them
    "a network": "bb24cae24e0c65ba0df50b99c1cc32bf27990be8a1f5231704a16842d3f45069",
    "a dev split": "c9aaa46ba756f913bd4d38bffb63c657f6d70d2351b54c26fee86fce1654a55f",
    "batched seeds": "6788d0365835c24ae549cf738a46acff1242143b1afd86e2dad1eaa3d95c96ab",
    "batched seeds with a dev split": "52d0324d0dd19df4f10085f4b9bb89d47bd67a89e7aaeef5bd58561d6324234f",
}
ON_JAX = {name: version for name, version in VERSIONS.items() if name != "tensorflow"} | {"jax": "0.11.2"}
BATCHED, DEV = {"executor": "f" * 64}, {"dev": "e" * 64}
INDICES = np.arange(3)
RUNS = {
    "a network": Run("plain", network(), 3, 10, None, "processes", DIGESTS, VERSIONS),
    "a dev split": Run("linear", ridge(), 0, 10, INDICES, "processes", DIGESTS | DEV, VERSIONS),
    "batched seeds": Run("plain", network(), 3, 10, None, "lanes", DIGESTS | BATCHED, VERSIONS),
    "batched seeds with a dev split": Run("plain", network(), 3, 10, INDICES, "lanes", DIGESTS | BATCHED | DEV, ON_JAX),
}


@pytest.mark.parametrize("name", KEYS)
def test_the_key_of_a_run_without_certificate_is_that_of_version_1(name: str) -> None:
    assert RUNS[name].key == KEYS[name]


def test_a_certified_run_has_the_key_of_the_canonical_environment() -> None:
    root = Environment("c" * 64, VERSIONS)
    later = VERSIONS | {"keras": "3.15.2"}
    certified = Run("plain", network(), 3, 10, None, "processes", DIGESTS | {"code": "9" * 64}, later, root)
    assert certified.key == KEYS["a network"]
    root = Environment("9" * 64, later)
    alone = Run("plain", network(), 3, 10, None, "processes", certified.digests, later)
    assert Run("plain", network(), 3, 10, None, "processes", certified.digests, later, root).key == alone.key
    assert alone.key != certified.key
    # Other data stay other data, whatever is certified.
    moved = Run("plain", network(), 3, 10, None, "processes", DIGESTS | {"data": "0" * 64}, later, root)
    assert moved.key != certified.key


def test_batched_seeds_are_certified_with_their_executor_or_without() -> None:
    root = Environment("c" * 64, ON_JAX, "f" * 64)
    other = {**DIGESTS, "code": "9" * 64, "executor": "8" * 64, **DEV}
    batched = Run("plain", network(), 3, 10, INDICES, "lanes", other, ON_JAX, root)
    assert batched.key == KEYS["batched seeds with a dev split"]
    plain = Run("linear", ridge(), 0, 10, INDICES, "lanes", other, ON_JAX, Environment("c" * 64, VERSIONS))
    assert plain.key == KEYS["a dev split"]


def write_environments(variant: str, *made_by: Environment, processor: str = "a processor; no bfloat16") -> None:
    table = pd.DataFrame({"seed": range(len(made_by)), "environment": list(map(str, made_by))})
    table = table.assign(evaluation=str(A), model="m", processor=processor)
    write_results(results(variant, environments=table))


@pytest.mark.usefixtures("folder")
def test_changes_are_differences_without_a_certificate() -> None:
    assert environments.changes_since("plain", IDENTITY, B) == []  # no results
    write_environments("plain", A, A, environment("a", scipy="1.17.0"))
    assert environments.changes_since("plain", IDENTITY, A) == ["scipy 1.17.0 → 1.18.0"]
    write_environments("plain", A, A)
    assert environments.changes_since("plain", IDENTITY, A) == []
    assert environments.changes_since("plain", IDENTITY, B) == ["the code in stages/recipes"]
    files.write_table(environments.CERTIFIED, certificates((B, A)))
    assert environments.changes_since("plain", IDENTITY, B) == []
    later = Environment("b", VERSIONS | {"keras": "3.15.2"})
    assert environments.changes_since("plain", IDENTITY, later) == ["keras 3.15.1 → 3.15.2"]  # the code is certified
    later = Environment("c", VERSIONS | {"keras": "3.15.2"})
    assert environments.changes_since("plain", IDENTITY, later) == [
        "the code in stages/recipes",
        "keras 3.15.1 → 3.15.2",
    ]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


AMX, OLD = "X; amx_bf16 avx512_bf16", "Y; no bfloat16"


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("recorded", "expected"),
    [
        (AMX, None),
        ("another name; amx_bf16 avx512_bf16", None),
        (OLD, "It was made on Y; no bfloat16; this is X; amx_bf16 avx512_bf16"),
        (NOT_RECORDED, "It was made on a processor that is not recorded; this is X; amx_bf16 avx512_bf16"),
    ],
)
def test_a_variant_in_bfloat16_gets_no_seeds_from_another_kind_of_processor(
    recorded: str, expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environments, "processor", lambda: AMX)
    half = network(precision="mixed_bfloat16")
    assert environments.processor_objection("plain", IDENTITY, half) is None  # no results yet
    write_environments("plain", A, A, processor=recorded)
    objection = environments.processor_objection("plain", IDENTITY, half)
    assert objection is None if expected is None else objection is not None and expected in objection
    assert environments.processor_objection("plain", IDENTITY, network()) is None
    assert environments.processor_objection("plain", IDENTITY, ridge()) is None
    # A certificate that was made on this kind will do, if it compares with the recorded runs.
    certified = certificates((B, A)).assign(processor=AMX)
    files.write_table(environments.CERTIFIED, certified.assign(how=environments.OLD_CODE_HERE))
    assert environments.processor_objection("plain", IDENTITY, half) == objection
    files.write_table(environments.CERTIFIED, certified.assign(how=environments.TRAINED_HERE))
    assert environments.processor_objection("plain", IDENTITY, half) is None


def test_the_kind_of_a_processor_is_its_instruction_sets_for_bfloat16() -> None:
    assert environments.kind("A; amx_bf16") == "amx_bf16"
    assert environments.kind(environments.processor()) in environments.processor()
    assert "," not in environments.processor()
