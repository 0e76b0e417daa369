"""Edit the number of seeds of variants in the text of params.yaml; comments, anchors and layout stay."""

import re
from collections.abc import Mapping
from typing import Any

from many_seeds.errors import UserError
from stages.study import files, params

PLAIN_NUMBER = re.compile(r"[1-9]\d*(?=[\s,}]|$)")


def with_seeds(text: str, seeds: Mapping[str, int]) -> str:
    """The text of params.yaml with another number of seeds for some variants.

    A variant that inherits its number from another recipe by `<<:` gets a line of its own if its number changes, or if
    the inherited number changes.

    Args:
        text: of params.yaml.
        seeds: variant → number of seeds.

    Raises:
        UserError: a number can't be edited, or the edited text is not valid.
    """
    before = params.parse(text, str(params.PARAMS))
    goal = _seeds(text) | dict(seeds)
    for _ in range(2):  # the second pass restores inherited numbers that the first one has changed
        for variant, number in goal.items():
            if _seeds(text)[variant] != number:
                text = _with_number(text, variant, number)
    after = params.parse(text, str(params.PARAMS))
    recipes = {name: recipe.model_copy(update={"seeds": goal[name]}) for name, recipe in before.variants.items()}
    if after != before.model_copy(update={"variants": recipes}):
        raise _not_editable(*seeds)
    return text


def _not_editable(*variants: str) -> UserError:
    return UserError(
        f"`seeds` of {', '.join(variants)} in {params.PARAMS} should be a plain number among their own fields, such as "
        "`seeds: 10`; received another form, which this command can't change: edit it by hand"
    )


def _seeds(text: str) -> dict[str, int]:
    return {name: recipe.seeds for name, recipe in params.parse(text, str(params.PARAMS)).variants.items()}


def _with_number(text: str, variant: str, number: int) -> str:
    """The text with a number of seeds in the fields of the variant: the present one replaced, or a new first field."""
    mapping: Any = files.yaml_values(text, str(params.PARAMS), "rt")["variants"][variant]
    lines = text.splitlines(keepends=True)
    if "seeds" in (mapping.lc.data or {}):
        _replace_number(lines, mapping, variant, number)
    else:
        _insert_field(lines, mapping, number)
    return "".join(lines)


def _replace_number(lines: list[str], mapping: Any, variant: str, number: int) -> None:
    line, column = mapping.lc.value("seeds")
    found = PLAIN_NUMBER.match(lines[line], column)
    if not found:  # such as an alias, or a hexadecimal number
        raise _not_editable(variant)
    lines[line] = f"{lines[line][:column]}{number}{lines[line][found.end() :]}"


def _insert_field(lines: list[str], mapping: Any, number: int) -> None:
    line, column = _first_field(lines, mapping)
    if mapping.fa.flow_style():
        lines[line] = f"{lines[line][:column]}seeds: {number}, {lines[line][column:]}"
    else:
        end = "\r\n" if lines[line].endswith("\r\n") else "\n"
        lines.insert(line, f"{' ' * column}seeds: {number}{end}")


def _first_field(lines: list[str], mapping: Any) -> tuple[int, int]:
    """Line and column of the first field of a variant."""
    places = mapping.lc.data or {}
    if places:
        line, column, *_ = min(tuple(place[:2]) for place in places.values())
        return line, column
    # The only field is `<<:`, for which ruamel.yaml has no place.
    line = next(i for i in range(mapping.lc.line, len(lines)) if "<<" in lines[i])
    return line, lines[line].index("<<")
