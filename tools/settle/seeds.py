"""Edit the number of seeds of variants in the text of params.yaml; comments, anchors and layout stay."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from many_seeds.errors import UserError
from stages.study import files, params

PLAIN_NUMBER = re.compile(r"[1-9]\d*(?=[\s,}]|$)")


class Edit(NamedTuple):
    """A new number of seeds of a variant.

    Attributes:
        variant: its name.
        mapping: its fields in the YAML, with their places.
        number: the new number.
    """

    variant: str
    mapping: Any
    number: int


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
    goal = {name: recipe.seeds for name, recipe in before.variants.items()} | dict(seeds)
    variants: Any = files.yaml_values(text, str(params.PARAMS), "rt")["variants"]
    edits: dict[int, Edit] = {}
    for _ in range(2):  # the second pass restores inherited numbers that the first one has changed
        for name, number in goal.items():
            source = _source(variants[name], edits)
            if (edits[id(source)].number if id(source) in edits else before.variants[name].seeds) != number:
                edits[id(variants[name])] = Edit(name, variants[name], number)
    text = _edited(text, list(edits.values()))
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


def _source(mapping: Any, edits: Mapping[int, Edit]) -> Any:
    """The mapping that gives a variant its number of seeds after the edits: its own, or one that it inherits from."""
    if id(mapping) in edits or _has_number(mapping):
        return mapping
    return next(filter(None, (_source(inherited, edits) for inherited in mapping.merge)), None)


def _has_number(mapping: Any) -> bool:
    return "seeds" in (mapping.lc.data or {})


def _edited(text: str, edits: Sequence[Edit]) -> str:
    """The text after the edits: the present number of a variant replaced, or a new first field."""
    lines = text.splitlines(keepends=True)
    places = [
        (edit.mapping.lc.value("seeds") if _has_number(edit.mapping) else _first_field(lines, edit.mapping), edit)
        for edit in edits
    ]
    # The last one first, so that the places of the others stay.
    for place, edit in sorted(places, key=lambda found: found[0], reverse=True):
        if _has_number(edit.mapping):
            _replace_number(lines, place, edit)
        else:
            _insert_field(lines, place, edit)
    return "".join(lines)


def _replace_number(lines: list[str], place: tuple[int, int], edit: Edit) -> None:
    line, column = place
    found = PLAIN_NUMBER.match(lines[line], column)
    if not found:  # such as an alias, or a hexadecimal number
        raise _not_editable(edit.variant)
    lines[line] = f"{lines[line][:column]}{edit.number}{lines[line][found.end() :]}"


def _insert_field(lines: list[str], place: tuple[int, int], edit: Edit) -> None:
    line, column = place
    if edit.mapping.fa.flow_style():
        lines[line] = f"{lines[line][:column]}seeds: {edit.number}, {lines[line][column:]}"
    else:
        end = "\r\n" if lines[line].endswith("\r\n") else "\n"
        lines.insert(line, f"{' ' * column}seeds: {edit.number}{end}")


def _first_field(lines: list[str], mapping: Any) -> tuple[int, int]:
    """Line and column of the first field of a variant."""
    places = mapping.lc.data or {}
    if places:
        line, column, *_ = min(tuple(place[:2]) for place in places.values())
        return line, column
    # The only field is `<<:`, for which ruamel.yaml has no place.
    line = next(i for i in range(mapping.lc.line, len(lines)) if "<<" in lines[i])
    return line, lines[line].index("<<")
