"""Merge dvc.lock, as a merge driver of git: the stages of both sides, so that two branches keep each other's results.

`make setup` tells git of it, and .gitattributes says for which files. What `aggregate` writes is not merged at all: our
side's stays until `dvc repro` writes it anew, from the runs of both.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dvc.exceptions import DvcException
from dvc.utils.serialize import modify_yaml, parse_yaml_for_update

from many_seeds import console
from many_seeds.errors import UserError

Stages = Mapping[str, Any]


def merged(base: Stages, ours: Stages, theirs: Stages) -> tuple[dict[str, Any], list[str]]:
    """The stages of both sides, and the names of those that both changed, each in its own way: they are ours.

    Args:
        base: stages of dvc.lock where the branches parted.
        ours: on the branch that is merged into.
        theirs: on the other.
    """
    names = [*ours, *(name for name in theirs if name not in ours)]
    chosen = {name: (theirs if ours.get(name) == base.get(name) else ours).get(name) for name in names}
    both = [name for name in names if chosen[name] != theirs.get(name) != base.get(name)]
    return {name: stage for name, stage in chosen.items() if stage is not None}, both


def _stages(path: str) -> Stages:
    text = Path(path).read_text(encoding="utf-8")  # empty where a side has no such file
    return parse_yaml_for_update(text, path).get("stages", {})


@console.command
def main() -> None:
    parser = console.Parser(prog="python -m tools.merge", description=__doc__)
    for name, side in (("base", "where the branches parted"), ("ours", "ours, overwritten"), ("theirs", "theirs")):
        parser.add_argument(name, help=f"a file with dvc.lock as it is on {side}")
    arguments = parser.parse_args()
    try:
        stages, both = merged(*map(_stages, (arguments.base, arguments.ours, arguments.theirs)))
        with modify_yaml(arguments.ours) as lock:
            lock["stages"] = stages
    except DvcException as error:
        raise UserError(f"dvc.lock can't be merged: {error}") from error
    if both:
        print(
            f"dvc.lock: both changed {', '.join(both)}: ours is kept; `make stale` says what to redo", file=sys.stderr
        )


if __name__ == "__main__":
    main()
