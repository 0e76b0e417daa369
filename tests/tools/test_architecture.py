"""The list of modules in docs/architecture.md."""

from pathlib import Path

import pytest

from many_seeds.errors import UserError
from tests import ROOT
from tools import architecture


def test_the_page_lists_every_module_with_the_first_sentence_of_its_docstring() -> None:
    text = (ROOT / architecture.PAGE).read_text(encoding="utf-8")
    assert text == architecture.page(text, ROOT), "run `python -m tools.architecture`"


def test_a_module_without_a_docstring_is_named(tmp_path: Path) -> None:
    for package in architecture.PACKAGES:
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text('"""A package."""\n')
    (tmp_path / "stages/new.py").write_text("import os\n")
    with pytest.raises(UserError, match=r"stages/new\.py should begin with a docstring"):
        architecture.modules(tmp_path)


def test_a_page_without_markers_is_refused() -> None:
    with pytest.raises(UserError, match="should have the markers"):
        architecture.page("# Architecture\n", ROOT)
