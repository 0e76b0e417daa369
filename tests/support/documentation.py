"""Code in the documentation, for tests that execute it."""

import re

from tests import ROOT


def code_block(page: str, language: str) -> str:
    """The first code block in a language on a page of the documentation."""
    text = (ROOT / page).read_text(encoding="utf-8")
    block = re.search(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert block is not None
    return block[1]
