"""The families of models in stages/recipes: which there are, and what code decides their results.

The same files are a train stage's dependencies in dvc.yaml; a test sees to that.
"""

import ast
import functools
import importlib
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from many_seeds.errors import UserError
from stages.recipes.shared.recipe import Recipe
from stages.study import files

FOLDER = Path(__file__).parents[1] / "recipes"
# What a family's file may import of this project: what is watched with it, and what decides no result.
WATCHED = ("stages.recipes.shared", "stages.errors", "stages.terminal")


def names() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("*.py") if not path.stem.startswith("_"))


def recipe_class(family: object) -> type[Recipe]:
    """The class of the family's recipes.

    Raises:
        UserError: there is no such family, or its file can't be used.
    """
    if not isinstance(family, str) or family not in names():
        raise UserError(f"should be one of {', '.join(names())} (the files in stages/recipes); received {family!r}")
    place = f"stages/recipes/{family}.py"
    try:
        with warnings.catch_warnings():  # a field in place of a method
            warnings.filterwarnings("error", "Field name .* shadows an attribute", UserWarning)
            found = getattr(importlib.import_module(f"stages.recipes.{family}"), "Recipe", None)
    except Exception as error:  # whatever a person's file may raise
        raise UserError(f"{place} can't be imported: {type(error).__name__}: {error}") from error
    if not isinstance(found, type) or not issubclass(found, Recipe):
        raise UserError(f"{place} should define a class named Recipe, derived from Trained or another recipe")
    if found.__abstractmethods__:
        raise UserError(f"{place}: Recipe should define {', '.join(sorted(found.__abstractmethods__))}")
    imports = _own_imports((FOLDER / f"{family}.py").read_text(encoding="utf-8"))
    if unwatched := [name for name in imports if not name.startswith(WATCHED)]:
        raise UserError(
            f"{place} imports {', '.join(unwatched)}, whose edits would train none of its variants anew: copy what it "
            "needs into this file"
        )
    return found


@functools.cache  # a study asks for each of its variants
def _own_imports(source: str) -> list[str]:
    """The full names that a file in `FOLDER` imports from this project."""
    project, found = Path(__file__).parents[2], []
    for node in ast.walk(ast.parse(source)):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
        if isinstance(node, ast.ImportFrom):
            above = ["stages", "recipes"][: 3 - node.level] if node.level else []
            names = [".".join([*above, *filter(None, [node.module]), name]) for name in names]
        for name in names:
            top = project / name.partition(".")[0]
            if top.with_suffix(".py").exists() or any(top.glob("*.py")):
                found.append(name)
    return found


def decisive(fields: Any) -> dict[str, Any] | None:
    """What of a recipe in dvc.lock or run.json decides its runs; None where such a recipe can't be any more."""
    try:
        return recipe_class(fields["family"]).model_validate({"seeds": 1, **fields}).decisive()
    except (KeyError, TypeError, UserError, ValidationError):
        return None


def code_files(family: str, folder: Path = FOLDER) -> list[Path]:
    """The files that decide the results of a family: what the families share, and the family's own.

    Args:
        family: its name.
        folder: the stages/recipes to look in, such as that of another commit.
    """
    return [*sorted((folder / "shared").glob("*.py")), folder / f"{family}.py"]


def code_digest(family: str, folder: Path = FOLDER) -> str:
    """A digest of the code that decides a family's results; the arguments are those of `code_files`."""
    return meaning(code_files(family, folder))


def meaning(paths: Sequence[Path]) -> str:
    """A digest of Python files that is the same after an edit of a comment, a docstring, layout or an error's text."""
    return files.digest(*(_meaning(path.read_text(encoding="utf-8")) for path in paths))


def definitions_digest(paths: Sequence[Path]) -> str:
    """A digest of what Python files define, in whichever file and order it stands, and whatever they import.

    Like `meaning`, it is the same after an edit of a comment, a docstring, layout or an error's text.
    """
    return files.digest(*sorted(text for path in paths for text in definitions(path.read_text(encoding="utf-8"))))


@functools.cache
def definitions(source: str) -> list[str]:
    """The syntax trees of a file's top-level statements but its imports, as text."""
    tree = _without_texts(ast.parse(source))
    # `pass` stands where a file has a docstring and nothing else.
    return [repr(_shape(node)) for node in tree.body if not isinstance(node, ast.Import | ast.ImportFrom | ast.Pass)]


@functools.cache
def _meaning(source: str) -> str:
    return repr(_shape(_without_texts(ast.parse(source))))


def _without_texts(tree: ast.Module) -> ast.Module:
    """The tree without docstrings and without what errors say."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
        if isinstance(node, ast.Raise):
            node.exc = node.cause = None
    return tree


def _shape(node: Any) -> Any:
    """A syntax tree as nested tuples, the same in every Python: their own printers differ from version to version."""
    if isinstance(node, ast.AST):
        fields = [(name, _shape(value)) for name, value in ast.iter_fields(node)]
        return type(node).__name__, [(name, value) for name, value in fields if value not in (None, [])]
    return [_shape(part) for part in node] if isinstance(node, list) else node
