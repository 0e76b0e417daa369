"""Merge files of two branches, as merge drivers of git: dvc.lock, the ledger of comparisons and metrics/seen.json.

`make setup` registers the drivers, and .gitattributes assigns the files. dvc.lock gets the stages of both sides, so
that two branches keep the results of both. The ledger gets the comparisons of both, and seen.json the larger numbers
of seeds. Files that the stage `aggregate` writes are not merged: those of our side stay until `dvc repro` writes them
again, from the runs of both sides.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dvc.exceptions import DvcException
from dvc.utils.serialize import modify_yaml, parse_yaml_for_update

from many_seeds import files
from many_seeds.commands import console
from many_seeds.errors import UserError
from many_seeds.ledger import parse, to_csv
from many_seeds.ledger_merge import merge as merge_rows
from stages.study import dvc, paths
from stages.study.records import seen
from stages.study.records.ledger_files import earlier_number

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


def _read_stages(path: Path) -> Stages:
    text = path.read_text(encoding="utf-8")  # empty if a side has no such file
    return parse_yaml_for_update(text, str(path)).get("stages", {})


def merge_locks(base: Path, ours: Path, theirs: Path) -> list[str]:
    """Merge files with the dvc.lock of two branches; the file of our side is overwritten.

    Returns:
        A message that names the stages that both sides changed in different ways, if there are any.

    Raises:
        UserError: a file is damaged.
    """
    try:
        stages, conflicts = merge(_read_stages(base), _read_stages(ours), _read_stages(theirs))
        with modify_yaml(ours) as lock:
            lock["stages"] = stages
    except DvcException as error:
        raise UserError(f"dvc.lock can't be merged: {error}") from error
    if not conflicts:
        return []
    return [f"both sides changed {', '.join(conflicts)}: ours is kept; `make stale` lists what is stale"]


def merge_ledgers(base: Path, ours: Path, theirs: Path) -> list[str]:
    """Merge files with the ledger of two branches; the file of our side is overwritten.

    Returns:
        A message for each set of comparisons whose levels have changed.

    Raises:
        UserError: a file is damaged, or one side has started a new ledger.
    """
    sides = ((base, "the common ancestor"), (ours, "our side"), (theirs, "their side"))
    rows, messages = merge_rows(*(parse(path.read_text(encoding="utf-8"), f"the ledger of {of}") for path, of in sides))
    files.write_bytes(ours, to_csv(rows).encode())
    return messages


def merge_seen(base: Path, ours: Path, theirs: Path) -> list[str]:
    """Merge files with the seen.json of two branches; the file of our side is overwritten.

    Returns:
        No message.

    Raises:
        UserError: a file is damaged.
    """
    sides = [
        seen.parse(path.read_bytes(), f"{paths.SEEN} of {of} side") for path, of in ((ours, "our"), (theirs, "their"))
    ]
    files.write_bytes(ours, seen.to_json(seen.union(*sides)))
    return []


def merge_files(base: Path, ours: Path, theirs: Path, name: Path) -> list[str]:
    """Merge the files of two branches by the function for their name; the file of our side is overwritten.

    Args:
        base: a copy of the file of the common ancestor.
        ours: a copy of the file of our side.
        theirs: a copy of the file of the other side.
        name: the path of the file in the repository.

    Returns:
        Messages about what the user should know.

    Raises:
        UserError: a file is damaged, or this command does not merge it.
    """
    if name.name == dvc.LOCK.name:
        return merge_locks(base, ours, theirs)
    if name.name == paths.SEEN.name:
        return merge_seen(base, ours, theirs)
    if name.name == paths.COMPARISONS.name or earlier_number(name):
        return merge_ledgers(base, ours, theirs)
    raise UserError(f"expected {dvc.LOCK}, {paths.COMPARISONS} or {paths.SEEN} to merge, received {name}")


@console.command
def main() -> None:
    parser = console.Parser(prog="python -m tools.merge", description=__doc__)
    parser.add_argument("base", type=Path, help="a copy of the file of the common ancestor")
    parser.add_argument("ours", type=Path, help="a copy of the file of our side, overwritten")
    parser.add_argument("theirs", type=Path, help="a copy of the file of their side")
    parser.add_argument(
        "name", type=Path, nargs="?", default=dvc.LOCK, help="its path in the repository (default: %(default)s)"
    )
    arguments = parser.parse_args()
    for message in merge_files(arguments.base, arguments.ours, arguments.theirs, arguments.name):
        print(f"{arguments.name}: {message}", file=sys.stderr)


if __name__ == "__main__":
    main()
