"""More seeds for some variants of params.yaml, as a person would write them: comments, anchors and layout stay."""

import re
from collections.abc import Mapping
from typing import Any

from many_seeds.errors import UserError
from stages.study import files, params

PLAIN = re.compile(r"[1-9]\d*(?=[\s,}]|$)")


def with_seeds(text: str, wanted: Mapping[str, int]) -> str:
    """The text of params.yaml with so many seeds for these variants.

    A variant that has its number from another recipe, by `<<:`, gets a line of its own where that number changes.

    Raises:
        UserError: the text can't be edited like that.
    """
    before = params.parse(text, str(params.PARAMS))
    goal = {name: recipe.seeds for name, recipe in before.variants.items()} | dict(wanted)
    for name, seeds in goal.items():
        if _seeds(text)[name] != seeds:
            text = _with_own(text, name, seeds)
    # What inherited a number that has just changed keeps its own.
    for name, seeds in goal.items():
        if _seeds(text)[name] != seeds:
            text = _with_own(text, name, seeds)
    after = params.parse(text, str(params.PARAMS))
    kept = {name: recipe.model_copy(update={"seeds": goal[name]}) for name, recipe in before.variants.items()}
    if after != before.model_copy(update={"variants": kept}):
        raise _by_hand(*wanted)
    return text


def _by_hand(*variants: str) -> UserError:
    return UserError(
        f"{params.PARAMS} can't be given more seeds of {', '.join(variants)}: `seeds` should stand among its own "
        "fields as a plain number, such as `seeds: 10`; write it so by hand"
    )


def _seeds(text: str) -> dict[str, int]:
    return {name: recipe.seeds for name, recipe in params.parse(text, str(params.PARAMS)).variants.items()}


def _with_own(text: str, variant: str, seeds: int) -> str:
    """`seeds` as the variant's own: in place of the number that it has, or before its first field."""
    mapping: Any = files.yaml_values(text, str(params.PARAMS), "rt")["variants"][variant]
    lines = text.splitlines(keepends=True)
    places = mapping.lc.data or {}
    if "seeds" in places:
        line, column = mapping.lc.value("seeds")
        number = PLAIN.match(lines[line], column)
        if not number:  # an alias, say, or a number written in another way
            raise _by_hand(variant)
        lines[line] = f"{lines[line][:column]}{seeds}{lines[line][number.end() :]}"
        return "".join(lines)
    if places:
        line, column = min(tuple(place[:2]) for place in places.values())
    else:  # it has nothing but `<<:`, of which ruamel keeps no place
        line = next(i for i in range(mapping.lc.line, len(lines)) if "<<" in lines[i])
        column = lines[line].index("<<")
    if mapping.fa.flow_style():
        lines[line] = f"{lines[line][:column]}seeds: {seeds}, {lines[line][column:]}"
    else:
        end = "\r\n" if lines[line].endswith("\r\n") else "\n"
        lines.insert(line, f"{' ' * column}seeds: {seeds}{end}")
    return "".join(lines)
