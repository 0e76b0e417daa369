"""More seeds in params.yaml, as a person would write them."""

import difflib

import pytest

from stages import params
from stages.seeds import with_seeds

TEXT = """\
# What is studied.
data: {name: digits}
split: {dev_fraction: 0.2, seeds: 64} # enough
variants:
  base: &base # of all
    family: ridge
    seeds: 5 # to begin with
    grid_powers: [-4, 12]
    tolerance: 8.0
  child: &child
    <<: *base
    tolerance: 4.0
  grandchild: {<<: *child, tolerance: 2.0}
  copy:
    <<: *base # the same
approaches: {linear: base}
comparisons:
  - {a: base, b: child}
chains: {}
statistics: {confidence: 0.95, equivalence_margin: 0.5, reproduction_margin: 0.1, design: open}
"""


def seeds(text: str) -> dict[str, int]:
    return {name: recipe.seeds for name, recipe in params.parse(text, "the test's study").variants.items()}


def added(text: str) -> list[str]:
    lines = difflib.ndiff(TEXT.splitlines(), text.splitlines())
    return [line[2:] for line in lines if line.startswith("+ ")]


@pytest.mark.parametrize("name", ["base", "child", "grandchild", "copy"])
def test_a_variant_gets_its_seeds_and_every_other_keeps_its_own(name: str) -> None:
    assert seeds(with_seeds(TEXT, {name: 9})) == {**seeds(TEXT), name: 9}


def test_several_variants_get_theirs_at_once() -> None:
    wanted = {"base": 7, "child": 12, "grandchild": 5, "copy": 6}
    assert seeds(with_seeds(TEXT, wanted)) == wanted


def test_only_the_lines_of_seeds_change_and_comments_stay() -> None:
    assert added(with_seeds(TEXT, {"child": 9})) == [
        "    seeds: 9",
        "  grandchild: {<<: *child, seeds: 5, tolerance: 2.0}",
    ]
    changed = with_seeds(TEXT, {"base": 8})
    assert added(changed)[0] == "    seeds: 8 # to begin with"
    assert "# enough" in changed
    assert "<<: *base # the same" in changed


def test_seeds_that_are_there_already_change_nothing() -> None:
    assert with_seeds(TEXT, {"base": 5, "copy": 5}) == TEXT


def test_adding_seeds_twice_replaces_the_number() -> None:
    twice = with_seeds(with_seeds(TEXT, {"child": 9}), {"child": 14})
    assert twice == with_seeds(TEXT, {"child": 14})
