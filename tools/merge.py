"""Merge dvc.lock, as a merge driver of git: the stages of both sides, so that two branches keep the results of both.

`make setup` registers the driver, and .gitattributes assigns the files. Files that the stage `aggregate` writes are not
merged: those of our side stay until `dvc repro` writes them again, from the runs of both sides.
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


def merge(base: Stages, ours: Stages, theirs: Stages) -> tuple[dict[str, Any], list[str]]:
    """Merge the stages of two branches.

    Args:
        base: the stages of dvc.lock in the common ancestor.
        ours: the stages on the branch that is merged into.
        theirs: the stages on the other branch.

    Returns:
        The stages of both sides, and the names of stages that both sides changed in different ways: these are ours.
    """
    names = [*ours, *(name for name in theirs if name not in ours)]
    chosen = {name: (theirs if ours.get(name) == base.get(name) else ours).get(name) for name in names}
    conflicts = [name for name in names if chosen[name] != theirs.get(name) != base.get(name)]
    return {name: stage for name, stage in chosen.items() if stage is not None}, conflicts


def _read_stages(path: str) -> Stages:
    text = Path(path).read_text(encoding="utf-8")  # empty if a side has no such file
    return parse_yaml_for_update(text, path).get("stages", {})


def merge_files(base: str, ours: str, theirs: str) -> list[str]:
    """Merge files with the dvc.lock of two branches; the file of our side is overwritten.

    Returns:
        The names of stages that both sides changed in different ways.

    Raises:
        UserError: a file is damaged.
    """
    try:
        stages, conflicts = merge(_read_stages(base), _read_stages(ours), _read_stages(theirs))
        with modify_yaml(ours) as lock:
            lock["stages"] = stages
    except DvcException as error:
        raise UserError(f"dvc.lock can't be merged: {error}") from error
    return conflicts


@console.command
def main() -> None:
    parser = console.Parser(prog="python -m tools.merge", description=__doc__)
    parser.add_argument("base", help="a file with dvc.lock of the common ancestor")
    parser.add_argument("ours", help="a file with dvc.lock of our side, overwritten")
    parser.add_argument("theirs", help="a file with dvc.lock of their side")
    arguments = parser.parse_args()
    if conflicts := merge_files(arguments.base, arguments.ours, arguments.theirs):
        print(
            f"dvc.lock: both sides changed {', '.join(conflicts)}: ours is kept; `make stale` lists what is stale",
            file=sys.stderr,
        )


if __name__ == "__main__":
    main()
