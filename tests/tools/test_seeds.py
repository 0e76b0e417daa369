"""The number of seeds edited in the text of params.yaml."""

import pytest

from many_seeds.errors import UserError
from stages.study import params
from tests.conftest import STUDY
from tools.settle.seeds import with_seeds

COMMENTED = STUDY.replace("    seeds: 2\n    filters", "    seeds: 2 # 0 and 1\n    filters")


def seeds(text: str) -> dict[str, int]:
    return {name: recipe.seeds for name, recipe in params.parse(text, "text").variants.items()}


def changed_lines(before: str, after: str) -> list[str]:
    unchanged = before.splitlines()
    return [line for line in after.splitlines() if line not in unchanged]


def test_the_number_is_replaced_in_place_and_its_comment_stays() -> None:
    text = with_seeds(COMMENTED, {"plain": 6, "watched": 6})
    assert seeds(text) == {"ridge": 2, "random_features": 2, "plain": 6, "watched": 6}
    assert changed_lines(COMMENTED, text) == ["    seeds: 6 # 0 and 1"]


def test_a_variant_with_an_inherited_number_gets_a_line_of_its_own() -> None:
    text = with_seeds(STUDY, {"watched": 5})
    assert seeds(text) == {"ridge": 2, "random_features": 2, "plain": 2, "watched": 5}
    assert changed_lines(STUDY, text) == ["    seeds: 5"]


def test_a_variant_keeps_its_number_if_the_inherited_one_changes() -> None:
    text = with_seeds(STUDY, {"plain": 7})
    assert seeds(text) == {"ridge": 2, "random_features": 2, "plain": 7, "watched": 2}


def test_a_variant_on_one_line_stays_on_one_line() -> None:
    text = with_seeds(STUDY, {"ridge": 3})
    assert changed_lines(STUDY, text) == ["  ridge: {family: ridge, seeds: 3, grid_powers: [-4, 12], tolerance: 8.0}"]


def test_a_variant_without_fields_of_its_own_gets_a_line_of_its_own() -> None:
    twin = STUDY.replace("approaches: {", "  twin:\n    <<: *plain\napproaches: {")
    assert seeds(with_seeds(twin, {"twin": 6}))["twin"] == 6
    assert seeds(with_seeds(twin, {"plain": 6}))["twin"] == 2


def test_the_same_numbers_leave_the_text_as_it_is() -> None:
    assert with_seeds(COMMENTED, {"plain": 2}) == COMMENTED


def test_more_seeds_than_split_seeds_are_an_error() -> None:
    with pytest.raises(UserError, match=r"variants\.plain\.seeds is 9, but only 8 of split\.seeds"):
        with_seeds(STUDY, {"plain": 9})


@pytest.mark.parametrize("number", ["0x2", "0_2", "!!int 2"])
def test_a_number_in_another_form_is_an_error(number: str) -> None:
    text = COMMENTED.replace("seeds: 2 # 0 and 1", f"seeds: {number}")
    with pytest.raises(UserError, match=r"`seeds` of plain in .* should be a plain number"):
        with_seeds(text, {"plain": 4})


def test_windows_line_ends_stay() -> None:
    text = with_seeds(STUDY.replace("\n", "\r\n"), {"plain": 4, "watched": 5})
    assert seeds(text) == {"ridge": 2, "random_features": 2, "plain": 4, "watched": 5}
    assert text.count("\n") == text.count("\r\n") == STUDY.count("\n") + 1


def test_a_recipe_that_inherits_from_itself_is_an_error() -> None:
    with pytest.raises(UserError, match=r"params\.yaml is not valid YAML"):
        with_seeds(STUDY.replace("plain: &plain\n", "plain: &plain\n    <<: *plain\n"), {"plain": 4})
