"""The families of models, and the edits of their code that make trained models stale."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import stages.recipes.network
from many_seeds.errors import UserError
from stages.recipes.network import Recipe as Network
from stages.recipes.ridge import Recipe as Ridge
from stages.study import params
from stages.study.provenance import families
from stages.study.provenance.families import definitions_digest, source_digest
from tests.conftest import STUDY


def test_the_families_are_the_files_of_the_folder() -> None:
    assert families.names() == ["network", "ridge"]
    assert families.recipe_class("network") is Network
    assert families.recipe_class("ridge") is Ridge


def test_in_an_experiment_the_error_for_a_family_without_a_file_says_how_an_untracked_file_gets_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(UserError) as outside:
        families.recipe_class("mine")
    assert "git add" not in str(outside.value)
    monkeypatch.setenv("DVC_EXP_NAME", "queued")
    with pytest.raises(UserError, match=r"`git add stages/recipes/mine\.py`"):
        families.recipe_class("mine")


@pytest.fixture
def custom(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """The path for a family file `custom`, in a folder that replaces stages/recipes."""
    import stages.recipes

    shutil.copytree(families.FOLDER / "shared", tmp_path / "shared")
    monkeypatch.setattr(families, "FOLDER", tmp_path)
    monkeypatch.setattr(stages.recipes, "__path__", [*stages.recipes.__path__, str(tmp_path)])
    yield tmp_path / "custom.py"
    import sys

    sys.modules.pop("stages.recipes.custom", None)
    vars(stages.recipes).pop("custom", None)


VALID = """
import numpy

from stages.recipes.shared.keras_recipe import KerasRecipe
from stages.recipes.shared.recipe import Count


class Recipe(KerasRecipe):
    width: Count

    def build(self, shape, classes, seeds):
        raise NotImplementedError
"""


def test_a_file_with_fields_and_a_build_is_a_family(custom: Path) -> None:
    custom.write_text(VALID)
    assert families.names() == ["custom"]
    assert "width" in families.recipe_class("custom").model_fields


def test_a_family_may_import_another_and_then_depends_on_its_file(custom: Path) -> None:
    shutil.copy(Path(stages.recipes.network.__file__), custom.with_name("network.py"))
    custom.write_text("from stages.recipes.network import Recipe\n")
    assert families.recipe_class("custom") is Network
    assert custom.with_name("network.py") in families.code_files("custom", custom.parent)


def test_the_imports_of_an_imported_file_are_checked_too(custom: Path) -> None:
    (custom.parent / "shared/helper.py").write_text("import stages.study.files\n")
    source = "if False:\n    import stages.recipes.shared.helper\n"  # the copy of the folder is not on the path
    custom.write_text(source + VALID)
    with pytest.raises(UserError, match=r"stages/recipes/shared/helper\.py imports stages\.study\.files, whose edits"):
        families.recipe_class("custom")


def test_the_error_for_a_recipe_of_version_1_names_missing_methods_and_the_docs(custom: Path) -> None:
    lines = [
        "from stages.recipes.shared import recipe",
        "class Recipe(recipe.Recipe):",
        "    def fit(self):",
        "        pass",
    ]
    custom.write_text("\n".join(lines))
    with pytest.raises(UserError, match=r"Recipe should define uses_validation \(.*docs/migration\.md\)"):
        families.recipe_class("custom")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (
            "from stages.recipes.shared.keras_recipe import KerasRecipe\nclass Recipe(KerasRecipe):\n    width: int\n",
            "stages/recipes/custom.py: Recipe should define build",
        ),
        ("class Recipe(\n", "stages/recipes/custom.py can't be imported: SyntaxError: "),
        ("import not_installed\n", "stages/recipes/custom.py can't be imported: ModuleNotFoundError: .*not_installed"),
        ("", "stages/recipes/custom.py should define a class named Recipe, derived from KerasRecipe"),
        ("class Recipe:\n    pass\n", "stages/recipes/custom.py should define a class named Recipe"),
        ("Recipe = 3\n", "stages/recipes/custom.py should define a class named Recipe"),
        ("1 / 0\n", "stages/recipes/custom.py can't be imported: ZeroDivisionError"),
        (
            f"from stages.recipes import shared\n{VALID}",
            r"stages/recipes/custom.py imports stages\.recipes\.shared: .* should name a module, or what a module",
        ),
        (
            "from stages.recipes.shared.trained import Trained\n",
            "stages/recipes/custom.py can't be imported: ModuleNotFoundError: .* Since version 2 that is "
            "`from stages.recipes.shared.keras_recipe import KerasRecipe`: see docs/migration.md",
        ),
        ("from stages.errors import StudyError\n", ".*`from many_seeds.errors import UserError`"),
        ("from stages.recipes.shared.recipe import Fitted\n", ".*`from stages.recipes.shared.recipe import FitResult`"),
        (
            f"import stages.study.files\n{VALID}",
            r"stages/recipes/custom.py imports stages\.study\.files, whose edits would train none",
        ),
        (f"from tests import conftest\n{VALID}", r"stages/recipes/custom.py imports tests\.conftest"),
        (
            VALID.replace("width:", "cost:"),
            '.*can\'t be imported: UserWarning: Field name "cost" .*shadows an attribute',
        ),
    ],
    ids=[
        "no build",
        "a syntax error",
        "a missing package",
        "empty",
        "another class",
        "no class",
        "raises",
        "a package",
        "the base class of version 1",
        "the error of version 1",
        "the result of version 1",
        "an unwatched module",
        "another folder",
        "a field in place of a method",
    ],
)
def test_the_error_for_an_invalid_family_file_names_the_file_and_the_variant(
    source: str, expected: str, custom: Path
) -> None:
    custom.write_text(source)
    text = STUDY.replace("  ridge: {family: ridge, ", "  ridge: {family: custom, ")
    with pytest.raises(UserError, match=rf"(?s)params\.yaml is not valid.*variants\.ridge\.family: {expected}"):
        params.parse(text, "params.yaml")


@pytest.mark.parametrize("family", ["netwrok", "shared", "__init__", "../params", "", None, 3, ["network"]])
def test_the_error_for_an_unknown_family_lists_all_families(family: object) -> None:
    with pytest.raises(UserError, match=r"should be one of network, ridge \(the files in stages/recipes\); received"):
        families.recipe_class(family)


SOURCE = '''
"""What this does."""

def scale(x):
    """Scale x."""
    # in half
    if x < 0:
        raise ValueError(f"x should not be negative, received {x}") from None
    return x * 0.5

class Layer:
    """A layer."""
'''


def digest_of_source(source: str, folder: Path) -> str:
    path = folder / "code.py"
    path.write_text(source, encoding="utf-8")
    return source_digest([path])


@pytest.mark.parametrize(
    "edit",
    [
        ("# in half", "# by two"),
        ("    # in half\n", ""),
        ('"""Scale x."""', '"""Halve x."""'),
        ('    """Scale x."""\n', ""),
        ('"""What this does."""', ""),
        ('    """A layer."""', "    pass"),
        ("return x * 0.5", "return (x *\n        0.50)"),
        ("x should not be negative, received {x}", "negative: {x}; give one from 0"),
    ],
)
def test_comments_docstrings_layout_and_error_messages_do_not_change_the_digest(
    edit: tuple[str, str], tmp_path: Path
) -> None:
    assert edit[0] in SOURCE
    assert digest_of_source(SOURCE.replace(*edit), tmp_path) == digest_of_source(SOURCE, tmp_path)


@pytest.mark.parametrize(
    "edit", [("0.5", "0.6"), ("x * 0", "x / 0"), ("def scale(x)", "def scale(x=1)"), ("x < 0", "x < 1")]
)
def test_a_changed_constant_has_another_digest(edit: tuple[str, str], tmp_path: Path) -> None:
    assert edit[0] in SOURCE
    assert digest_of_source(SOURCE.replace(*edit), tmp_path) != digest_of_source(SOURCE, tmp_path)


def code_of(family: str) -> set[str]:
    return {str(path.relative_to(families.FOLDER)) for path in families.code_files(family)}


def test_the_code_of_a_family_is_its_file_what_trains_runs_and_their_imports() -> None:
    packages = {"__init__.py", "shared/__init__.py"}
    executing = {f"shared/{name}.py" for name in ("training", "recipe", "saved", "native_stderr")}
    assert code_of("ridge") == packages | executing | {"ridge.py"}
    shared = {f"shared/{path.name}" for path in (families.FOLDER / "shared").glob("*.py")}
    assert code_of("network") == packages | shared | {"network.py"}


def test_an_edit_changes_the_digests_of_the_families_that_use_the_file_only(monkeypatch: pytest.MonkeyPatch) -> None:
    read_text = Path.read_text
    before = {family: families.code_digest(family) for family in families.names()}
    for name in ("network.py", "ridge.py", "shared/fit.py", "shared/training.py"):
        changed = families.FOLDER / name
        with monkeypatch.context() as patch:
            patch.setattr(
                Path,
                "read_text",
                lambda path, changed=changed, **how: read_text(path, **how) + ("\nX = 1\n" if path == changed else ""),
            )
            for family, digest in before.items():
                assert (families.code_digest(family) != digest) == (changed in families.code_files(family))


PARTS = {
    "one.py": '''
"""One."""

import math

from stages.recipes.shared.two import half

LIMIT = 0.5  # of all


def first(x):
    """The first."""
    return half(x) * LIMIT
''',
    "two.py": """
import numpy as np


def half(x):
    # by two
    return np.asarray(x) / 2


class Layer:
    size = 3
""",
}
HALF = "def half(x):\n    # by two\n    return np.asarray(x) / 2\n"


def digest_of(parts: dict[str, str], folder: Path) -> str:
    for path in folder.glob("*.py"):
        path.unlink()
    for name, source in parts.items():
        (folder / name).write_text(source, encoding="utf-8")
    return definitions_digest(sorted(folder.glob("*.py")))


@pytest.mark.parametrize(
    "parts",
    [
        {"one.py": PARTS["one.py"] + f"\n\n{HALF}", "two.py": PARTS["two.py"].replace(HALF, "")},
        {"both.py": PARTS["one.py"] + PARTS["two.py"]},
        {"two.py": PARTS["one.py"], "other.py": PARTS["two.py"]},
        PARTS | {"two.py": "class Layer:\n    size = 3\n\n\n" + PARTS["two.py"].partition("class")[0]},
        PARTS | {"two.py": "import numpy as np\nfrom os import path\n" + PARTS["two.py"].partition("numpy as np")[2]},
        PARTS | {"one.py": PARTS["one.py"].replace("# of all", "# of each").replace('"""One."""', "")},
        PARTS | {"two.py": PARTS["two.py"].replace("    # by two\n", "")},
        PARTS | {"one.py": PARTS["one.py"].replace("The first.", "What comes first.")},
        PARTS | {"empty.py": '"""Nothing."""\n'},
    ],
    ids=["moved", "in one file", "renamed", "reordered", "imports", "comments", "a comment", "a docstring", "empty"],
)
def test_the_files_and_order_of_definitions_do_not_change_their_digest(parts: dict[str, str], tmp_path: Path) -> None:
    assert digest_of(parts, tmp_path) == digest_of(PARTS, tmp_path)


@pytest.mark.parametrize(
    "edit", [("two.py", "/ 2", "/ 3"), ("one.py", "LIMIT = 0.5", "LIMIT = 0.6"), ("two.py", "size = 3", "size = 4")]
)
def test_an_edited_constant_has_another_digest_of_definitions(edit: tuple[str, str, str], tmp_path: Path) -> None:
    name, old, new = edit
    assert old in PARTS[name]
    changed = PARTS | {name: PARTS[name].replace(old, new)}
    assert digest_of(changed, tmp_path) != digest_of(PARTS, tmp_path)
