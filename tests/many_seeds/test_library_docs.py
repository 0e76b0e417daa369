"""docs/library.md: every public name has a section, and its examples are true."""

import doctest
import re
from pathlib import Path

import pytest

import many_seeds as ms
from tests import ROOT

PAGE = (ROOT / "docs/library.md").read_text(encoding="utf-8")


def test_the_examples_are_true(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    examples = "\n".join(re.findall(r"^```pycon\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
    # As in an interactive session, whose functions `decide` sends to other processes by value.
    session = {"__name__": "__main__"}
    page = doctest.DocTestParser().get_doctest(examples, session, "docs/library.md", None, None)
    assert len(page.examples) > 20
    assert doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(page).failed == 0


def test_every_public_name_has_a_section_with_an_example() -> None:
    sections = re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    named = {name for title, text in sections for name in re.findall(r"\w+", title) if ">>> " in text}
    assert named - {"and"} == {*ms.__all__}
