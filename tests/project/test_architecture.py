"""The direction of imports, tools → stages → many_seeds, and the files that DVC tracks, checked in the source."""

import ast
import functools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from stages.study.params import Params
from stages.study.provenance import environments, families
from tests import ROOT

LIBRARY, STAGES = ROOT / "many_seeds", ROOT / "stages"
FILES = [path for folder in (LIBRARY, STAGES, ROOT / "tools") for path in sorted(folder.rglob("*.py"))]
LIBRARY_FILES = [path for path in FILES if path.is_relative_to(LIBRARY)]
FOLDERS = ["fetch", "split", "code", "ledger", "train", "evaluate", "aggregate"]
# The packages in stages/ that any stage may import. They import no stage and no tool.
SHARED = {"study", "tracking"}
# The packages that the library may import; some only where they are needed.
INSTALLED = {"cloudpickle", "distributed", "joblib", "matplotlib", "mlflow", "numpy", "pandas", "scipy", "yaml"}


@functools.cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@functools.cache
def imported(path: Path) -> list[str]:
    """The full names that a file imports, at its top or inside a function."""
    names = list[str]()
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def packages(path: Path) -> set[str]:
    """The packages that a file imports."""
    return {name.split(".")[0] for name in imported(path)}


def stage_modules(path: Path) -> set[str]:
    """The packages in stages/ that a file imports."""
    return {name.split(".")[1] for name in imported(path) if name.startswith("stages.")}


def test_imports_go_down_only() -> None:
    for path in FILES:
        forbidden = {LIBRARY: {"stages", "tools"}, STAGES: {"tools"}}.get(ROOT / path.relative_to(ROOT).parts[0], set())
        assert not packages(path) & {*forbidden, "tests", "benchmarks"}, path


def test_the_library_imports_itself_and_its_dependencies_only() -> None:
    assert LIBRARY_FILES
    for path in LIBRARY_FILES:
        assert packages(path) <= {"many_seeds", *INSTALLED, *sys.stdlib_module_names}, path


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_stage_imports_its_folder_and_the_shared_packages_only(folder: str) -> None:
    paths = sorted((STAGES / folder).rglob("*.py"))
    assert paths
    allowed = {folder, "recipes"} if folder in ("train", "evaluate") else {folder}
    for path in paths:
        assert stage_modules(path) <= allowed | SHARED, path


def test_a_shared_package_imports_no_stage_and_no_tool() -> None:
    for module in SHARED:
        paths = [STAGES / f"{module}.py"] if (STAGES / f"{module}.py").exists() else sorted(STAGES.glob(f"{module}/*"))
        assert paths
        for path in (path for path in paths if path.suffix == ".py"):
            assert stage_modules(path) <= {*SHARED, "recipes"}, path


def test_the_code_that_decides_results_is_in_one_folder() -> None:
    """Except for the class of its errors."""
    for path in (STAGES / "recipes").rglob("*.py"):
        assert stage_modules(path) <= {"recipes"}, path
        assert {name for name in imported(path) if name.startswith("many_seeds")} <= {"many_seeds.errors.UserError"}, (
            path
        )


def test_families_import_shared_modules_only() -> None:
    for family in families.names():
        known = {name for name in imported(families.FOLDER / f"{family}.py") if name.startswith("stages.recipes.")}
        assert {name.split(".")[2] for name in known} == {"shared"}
    for path in (families.FOLDER / "shared").glob("*.py"):
        assert not [name for name in imported(path) if name.split(".")[2:3] and name.split(".")[2] in families.names()]


def test_no_code_depends_on_the_name_of_a_family() -> None:
    """The differences between families are defined in their files."""
    for path in FILES:
        if not path.is_relative_to(STAGES / "recipes"):
            for node in ast.walk(parsed(path)):
                if isinstance(node, ast.Compare):
                    values = {part.value for part in ast.walk(node) if isinstance(part, ast.Constant)}
                    assert not values & {*families.names()}, f"{path}:{node.lineno}"
            used = {name for name in imported(path) if name.startswith("stages.recipes.")}
            assert {name.split(".")[2] for name in used} <= {"shared"}, path


def tracked(stage: str) -> set[Path]:
    """The files of code that are dependencies of a stage in dvc.yaml."""
    dvc = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"][stage]
    paths = [ROOT / name for name in dvc["deps"] if name.startswith(("stages/", "many_seeds/"))]
    assert all(path.exists() for path in paths)
    return {file for path in paths for file in ([path] if path.is_file() else path.rglob("*.py"))}


@pytest.mark.parametrize("variant", ["linear", "elm", "mlp_reference", "cnn_tuned"])
def test_dvc_tracks_the_files_in_the_digest_of_a_runs_key(variant: str, committed_study: Params) -> None:
    family = committed_study.recipe(variant).family
    assert set(families.code_files(family)) | set(environments.SCORING) <= tracked("code")


def test_dvc_tracks_the_modules_of_the_library_that_aggregate_imports() -> None:
    """Except errors, atomic writes, the handling of commands and terminals, and the removal of passwords."""
    used = set[Path]()
    waiting = [
        *sorted((STAGES / "aggregate").rglob("*.py")),
        *(STAGES / f"study/{name}.py" for name in ("comparisons", "races")),
    ]
    while waiting:
        names = {".".join(name.split(".")[:depth]) for name in imported(waiting.pop()) for depth in (2, 3)}
        paths = {ROOT / f"{name.replace('.', '/')}.py" for name in names if name.startswith("many_seeds.")}
        waiting += [path for path in paths - used if path.exists()]
        used |= {path for path in paths if path.exists()}
    untracked = ("commands/console", "commands/redact", "errors", "files", "output/terminal")
    others = {LIBRARY / f"{name}.py" for name in untracked}
    assert used - others <= tracked("aggregate")
    assert others <= used


def test_mlflow_is_imported_only_to_read_or_write_runs_and_models() -> None:
    users = {path for path in FILES if "mlflow" in packages(path)}
    serving = ROOT / "tools/serving"
    files = {LIBRARY / "sources/mlflow_runs.py", serving / "register.py", serving / "server.py"}
    assert files <= users <= files.union((STAGES / "tracking").glob("*.py"))


def test_tracking_is_imported_by_entry_points_and_tools_only() -> None:
    users = {path for path in FILES if any(name.startswith("stages.tracking") for name in imported(path))}
    below = {path for path in users if path.is_relative_to(STAGES) and not path.is_relative_to(STAGES / "tracking")}
    assert below == {STAGES / "train/__main__.py", STAGES / "aggregate/__main__.py"}


def test_only_split_and_evaluate_use_the_test_set() -> None:
    """Of the stages; tools may use it, too."""
    for folder in {*FOLDERS, "recipes"} - {"split", "evaluate"}:
        for path in (STAGES / folder).rglob("*.py"):
            names = {node.attr for node in ast.walk(parsed(path)) if isinstance(node, ast.Attribute)}
            assert "TEST" not in names, path
            assert "test.npz" not in path.read_text(), path


def test_light_modules_do_not_import_packages_that_take_long() -> None:
    shared = ("keras_recipe", "recipe", "epochs", "optimizers", "rates", "augmentation", "training")
    modules = [
        "tools.compare.__main__",
        "tools.stale",
        "tools.settle.__main__",
        "stages.study.params",
        "stages.study.records.results",
        *(f"stages.recipes.shared.{name}" for name in shared),
        *(f"stages.recipes.{family}" for family in families.names()),
        "stages.train.__main__",
        "tools.serving.predict",
    ]
    heavy = "{'tensorflow', 'keras', 'jax', 'torch', 'mlflow', 'sklearn', 'scipy.special', 'matplotlib', 'dvc'}"
    imports = "; ".join(f"import {name}; print('{name}', *({heavy} & set(sys.modules)))" for name in modules)
    command = [sys.executable, "-c", f"import sys; {imports}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    *others, predict = done.stdout.splitlines()
    assert others == modules[:-1]  # with nothing behind a name
    assert predict == "tools.serving.predict scipy.special"  # by which pictures are prepared


def function_lines() -> Iterator[tuple[int, str]]:
    """For every function, the number of lines of its body without the docstring, and its name."""
    for path in FILES:
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                lines = (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0
                yield lines, f"{path.relative_to(ROOT)} {node.name}"


def test_no_function_is_longer_than_40_lines() -> None:
    assert [found for found in function_lines() if found[0] > 40] == []
