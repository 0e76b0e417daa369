"""The families of models in stages/recipes, and the code that decides their results."""

import contextlib
import functools
import importlib
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from many_seeds.errors import UserError
from stages.recipes.shared.native_stderr import native_stderr_hidden
from stages.recipes.shared.recipe import Recipe
from stages.study import files
from stages.study.provenance import code_digests
from stages.study.provenance.code_digests import IGNORED, PACKAGE

FOLDER = Path(__file__).parents[2] / "recipes"
EXECUTES = "shared/training.py"  # trains the runs of every family
# Imports of version 1: a part of the error message → the import that replaces it.
RENAMED = {
    "stages.recipes.shared.trained": "from stages.recipes.shared.keras_recipe import KerasRecipe",
    "stages.errors": "from many_seeds.errors import UserError",
    "'Fitted'": "from stages.recipes.shared.recipe import FitResult",
    "'Report'": "from stages.recipes.shared.recipe import EpochCallback",
}


def names() -> list[str]:
    """The names of the families, which are those of the files in stages/recipes."""
    return sorted(path.stem for path in FOLDER.glob("*.py") if not path.stem.startswith("_"))


def recipe_class(family: object) -> type[Recipe]:
    """The class of a family's recipes.

    Args:
        family: its name.

    Raises:
        UserError: there is no such family, or its file can't be used.
    """
    if not isinstance(family, str) or family not in names():
        # A queued experiment runs in a folder with the files that git tracks.
        queued = f"; for an experiment, `git add stages/recipes/{family}.py`" if os.environ.get("DVC_EXP_NAME") else ""
        raise UserError(
            f"should be one of {', '.join(names())} (the files in stages/recipes); received {family!r}{queued}"
        )
    place = f"stages/recipes/{family}.py"
    try:
        with warnings.catch_warnings(), _quiet_import(f"stages.recipes.{family}") as module:
            # A field that hides a method is an error.
            warnings.filterwarnings("error", "Field name .* shadows an attribute", UserWarning)
            found = getattr(importlib.import_module(module), "Recipe", None)
    except Exception as error:  # a family's file may raise anything
        raise UserError(f"{place} can't be imported: {type(error).__name__}: {error}{_renamed(error)}") from error
    if not isinstance(found, type) or not issubclass(found, Recipe):
        raise UserError(f"{place} should define a class named Recipe, derived from KerasRecipe or another recipe")
    if found.__abstractmethods__:
        raise UserError(
            f"{place}: Recipe should define {', '.join(sorted(found.__abstractmethods__))} (see docs/models.md; "
            "for the names of version 1 see docs/migration.md)"
        )
    check_imports(family)
    return found


@contextlib.contextmanager
def _quiet_import(module: str) -> Iterator[str]:
    """Hide what Keras prints if the first import of a module imports it, as that of a family with its own layers."""
    with contextlib.nullcontext() if module in sys.modules else native_stderr_hidden():
        yield module


def _renamed(error: Exception) -> str:
    """The import that replaces one of version 1, to append to its error; otherwise empty."""
    if not isinstance(error, ImportError):
        return ""
    lines = [line for name, line in RENAMED.items() if name in str(error)]
    return f". Since version 2 that is `{lines[0]}`: see docs/migration.md" if lines else ""


def check_imports(family: str) -> None:
    """Check that all code of this project that a family imports is part of the family's digest.

    Raises:
        UserError: it imports other code of the project.
    """
    _check_imports(family, tuple(_sources(FOLDER).items()))


@functools.lru_cache(maxsize=256)  # called for every variant of a study
def _check_imports(family: str, sources: tuple[tuple[str, str], ...]) -> None:
    by_file = dict(sources)
    for file in code_digests.closure([f"{family}.py", EXECUTES], by_file):
        imports = _project_imports(by_file[file], code_digests.module_name(file))
        if others := [name for name in imports if not code_digests.is_in(name, PACKAGE, IGNORED)]:
            raise UserError(
                f"stages/recipes/{file} imports {', '.join(others)}, whose edits would train none of the variants of "
                f"{family} anew: copy what it needs into a file in stages/recipes/shared"
            )


def _project_imports(source: str, module: str) -> list[str]:
    """The full names that a module imports from this project."""
    project, found = Path(__file__).parents[3], []
    for name in code_digests.imported_names(source, module):
        top = project / name.partition(".")[0]
        if top.with_suffix(".py").exists() or any(top.glob("*.py")):
            found.append(name)
    return found


def key_fields(fields: Any) -> dict[str, Any] | None:
    """The key fields of a recipe in dvc.lock or run.json; None if the recipe is not valid any more."""
    try:
        return recipe_class(fields["family"]).model_validate({"seeds": 1, **fields}).key_fields()
    except (KeyError, TypeError, UserError, ValidationError):
        return None


def code_files(family: str, folder: Path = FOLDER) -> list[Path]:
    """The files that decide the results of a family: its file, `EXECUTES`, and their imports, transitively.

    Args:
        family: its name.
        folder: the folder stages/recipes, which may be that of another commit.
    """
    return [folder / name for name in code_digests.closure([f"{family}.py", EXECUTES], _sources(folder))]


def code_digest(family: str, folder: Path = FOLDER) -> str:
    """A digest of the code that decides the results of a family.

    Args:
        family: its name.
        folder: as in `code_files`.

    Raises:
        UserError: files import one another in a cycle.
    """
    return code_digests.import_digest((f"{family}.py", EXECUTES), tuple(_sources(folder).items()))


def _sources(folder: Path) -> dict[str, str]:
    """The Python files of a folder, as path in the folder → text."""
    paths = sorted(folder.rglob("*.py"))
    return {path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8") for path in paths}


def source_digest(paths: Sequence[Path]) -> str:
    """A digest of Python files in this order, without comments, docstrings, layout and error messages."""
    shapes = [code_digests.source_shape(path.read_text(encoding="utf-8")) for path in paths]
    return files.digest(*shapes)


def definitions_digest(paths: Sequence[Path]) -> str:
    """A digest of the definitions in Python files, independent of their file, their order and of imports.

    Like `source_digest`, it ignores comments, docstrings, layout and error messages.
    """
    found = [text for path in paths for text in code_digests.definitions(path.read_text(encoding="utf-8"))]
    return files.digest(*sorted(found))
