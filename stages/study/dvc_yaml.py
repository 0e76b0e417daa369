"""YAML that DVC wrote, read ten times as fast as by ruamel.yaml, with which DVC reads it, and to the same values."""

from typing import Any

import yaml
from ruamel.yaml.resolver import implicit_resolvers

from many_seeds.errors import UserError


class _Loader(yaml.CSafeLoader):
    """libyaml with the types of YAML 1.2, which DVC writes. In YAML 1.1 of PyYAML, 1e-05 is text and `yes` is true."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        found = super().construct_mapping(node, deep)
        if len(found) < len(node.value):  # as after a merge: PyYAML would silently take the last one
            raise yaml.constructor.ConstructorError(None, None, "found a key twice", node.start_mark)
        return dict(found)


for _versions, _tag, _pattern, _first in implicit_resolvers:
    if (1, 2) in _versions:
        _Loader.add_implicit_resolver(_tag, _pattern, _first)


def load(text: str, source: str) -> Any:
    """The value of a YAML document.

    Args:
        text: the YAML.
        source: its name in errors.

    Raises:
        UserError: the text is not valid YAML, or a mapping has a key twice.
    """
    try:
        return yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError) as error:  # the second by a date that does not exist
        raise UserError(f"{source} is not valid YAML: {error}") from error
