"""What DESIGN says of who may know whom, read from the source."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from stages.train.run import RESULT_MODULES
from tests.conftest import ROOT

STAGES = ROOT / "stages"
FOLDERS = ["fetch", "split", "train", "evaluate", "aggregate"]
SHARED = ["params", "records", "sequential", "tracking"]
SERVING = ["predict", "register", "serve", "views"]
FILES = sorted(STAGES.rglob("*.py"))


def imported(path: Path) -> Iterator[str]:
    """The full names of what a file imports, at its top or inside a function."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def stage_modules(path: Path) -> set[str]:
    """The folders and modules right below stages/ that a file imports."""
    return {name.split(".")[1] for name in imported(path) if name.startswith("stages.")}


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_stage_imports_its_own_folder_and_the_shared_modules_only(folder: str) -> None:
    files = sorted((STAGES / folder).glob("*.py"))
    assert files
    for path in files:
        assert stage_modules(path) <= {folder, *SHARED}, path


@pytest.mark.parametrize("module", [*SHARED, *SERVING])
def test_a_shared_module_knows_no_stage_and_neither_does_what_serves_its_results(module: str) -> None:
    known = {
        "sequential": [],
        "views": ["params"],
        "tracking": [*SHARED, "views"],
        "predict": ["records"],
        "serve": [*SHARED, "predict"],
    }
    known["register"] = [*SHARED, "predict", "serve"]
    assert stage_modules(STAGES / f"{module}.py") <= set(known.get(module, SHARED))


def test_only_tracking_and_what_serves_the_model_import_mlflow() -> None:
    users = [path.name for path in FILES if any(name.split(".")[0] == "mlflow" for name in imported(path))]
    assert users == ["register.py", "serve.py", "tracking.py"]


def test_the_test_set_is_named_where_it_is_written_and_where_it_is_evaluated_only() -> None:
    """In `stages.evaluate` and `stages.split`; anything else beside the folders is a tool that people run by hand."""
    for folder in {*FOLDERS} - {"split", "evaluate"}:
        for path in (STAGES / folder).glob("*.py"):
            names = {node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)}
            assert "TEST" not in names, path
            assert "test.npz" not in path.read_text(), path


def test_what_decides_a_trained_model_is_in_the_digest_of_its_code() -> None:
    """A module left out would let stale models pass as finished."""
    reached, waiting = set(), ["run"]
    while waiting:
        module = waiting.pop()
        if module not in reached:
            reached.add(module)
            names = imported(STAGES / "train" / f"{module}.py")
            waiting += [name.split(".")[2] for name in names if name.startswith("stages.train.")]
    assert reached == {module for modules in RESULT_MODULES.values() for module in modules}


@pytest.mark.parametrize("module", ["train.__main__", "predict"])
def test_a_process_that_only_hands_out_runs_or_reads_images_loads_neither_tensorflow_nor_mlflow(module: str) -> None:
    code = f"import sys, stages.{module}; print({{'tensorflow', 'keras', 'mlflow'}} & sys.modules.keys())"
    answer = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "set()"
