"""What changed between two commits, with error bars: `dvc metrics diff` for scores over many seeds.

`python -m stages.compare REV` compares the working tree with REV, `python -m stages.compare OLD NEW` two revisions.
Everything is read from git or from the files of the working tree: no models, no data set, no DVC.
With --fail-on it is a gate: exit status 0, 1 where it is shut, 2 for an error.
"""

import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from stages import files, gate, layout, params
from stages.aggregate import answers, parts
from stages.changes import Difference, Pair, compare, findings, points
from stages.revisions import read_side


def as_text(difference: Difference, says: Sequence[str] = ()) -> str:
    """An aligned table, how to read it, what else is to be said, and what the gate says."""
    table = _shown(difference)
    parts = [table.title]
    if table.rows:
        cells = [[text for text, _ in row] for row in table.rows]
        parts += [layout.aligned(table.header, cells), layout.filled(table.caption)]
    for lines in (_remarks(difference), says):
        if lines:
            parts.append("\n".join(layout.filled(line, "  ") for line in lines))
    return "\n\n".join(parts) + "\n"


def as_markdown(difference: Difference, says: Sequence[str] = ()) -> str:
    """The same for pull requests, the verdicts first."""
    table = _shown(difference)
    paragraphs = [f"## {table.title}", *([_bullets(says)] if says else []), _verdicts(difference)]
    if table.rows:
        cells = [[text for text, _ in row] for row in table.rows]
        paragraphs += [layout.markdown(table.header, cells), table.caption]
    if remarks := _remarks(difference):
        paragraphs.append(_bullets(remarks))
    return "\n\n".join(paragraphs) + "\n"


def _bullets(lines: Sequence[str]) -> str:
    return "\n".join(f"- {layout.escaped(line)}" for line in lines)


def _verdicts(difference: Difference) -> str:
    """A line for each verdict, and the variants that have it."""
    rows = list(parts.plain_rows(difference.table))
    lines = []
    for verdict in ("worse", "undecided", "better", "equivalent"):
        names = [f"{row['b']} ({points(row['difference'])})" for row in rows if row["verdict"] == verdict]
        lines += [f"**{verdict}**: {layout.escaped(', '.join(names))}"] if names else []
    return "\\\n".join(lines) or "**unchanged**: no variant predicts anything else"


def as_json(difference: Difference) -> dict[str, Any]:
    """The same for programs, as values that JSON knows; a value that does not exist is None."""
    old, new = difference.old, difference.new
    seeds = {**difference.changed, **difference.unchanged, **difference.unpaired}
    return {
        "old": {"name": old.label, "commit": old.commit},
        "new": {"name": new.label, "commit": new.commit},
        "settings": difference.settings.model_dump(),
        "changed": [
            {
                "variant": row["b"],
                **{name: _json_value(value) for name, value in row.items() if name not in ("a", "b")},
                **_facts(difference.changed[row["b"]]),
            }
            for row in difference.table.to_dict("records")
        ],
        "unchanged": [{"variant": name, **_facts(pair)} for name, pair in difference.unchanged.items()],
        "not_compared": [{"variant": name, **_facts(pair)} for name, pair in difference.unpaired.items()],
        "missing": {
            "variants": {
                "old": difference.only_new,
                "new": difference.only_old,
                "both": difference.without_runs,
            },
            "seeds": {
                name: {"old": pair.only_new, "new": pair.only_old}
                for name, pair in seeds.items()
                if pair.only_new or pair.only_old
            },
        },
    }


def _json_value(value: Any) -> Any:
    """A cell of a table; None where it is missing or infinite, which JSON does not know."""
    return None if pd.isna(value) or value in (np.inf, -np.inf) else value


def _facts(pair: Pair) -> dict[str, Any]:
    return {
        "seeds": pair.new.seeds,
        "parameters": {name: {"old": a, "new": b} for name, (a, b) in pair.parameters.items()},
        "same_data": pair.old.data == pair.new.data,
        "same_keys": pair.same_keys,
    }


def _shown(difference: Difference) -> parts.Table:
    old, new, table = difference.old, difference.new, difference.table
    columns = [parts.text("variant", "b"), *answers.columns(parts.images_of(new.data))]
    images = len(next(iter(new.runs.values())).truth)
    promise = answers.promise(len(table), images, difference.settings)
    caption = f"a: {old.label}; b: {new.label}. {promise}"
    return parts.Table("compare", f"Test accuracy: {old.label} → {new.label}", caption, table, columns)


def _remarks(difference: Difference) -> list[str]:
    """A line for each thing that the table doesn't say."""
    old, new = difference.old.label, difference.new.label
    remarks = [f"{name}: {'; '.join(_why(pair))}" for name, pair in difference.changed.items()]
    again: dict[str, list[str]] = {}
    for name, pair in difference.unchanged.items():
        if not pair.same_keys:
            again.setdefault("; ".join(_why(pair)), []).append(name)
        elif pair.parameters:
            remarks.append(
                f"{name}: {params.in_words(pair.parameters)} in {params.PARAMS}, but the runs are the same: not "
                "trained with it, see `dvc status`"
            )
    remarks += [f"{', '.join(names)}: {why}; but the predictions are the same" for why, names in again.items()]
    for name, pair in {**difference.changed, **difference.unchanged, **difference.unpaired}.items():
        remarks += [f"{name}: {_seeds(pair.only_old)} only in {old}"] if pair.only_old else []
        remarks += [f"{name}: {_seeds(pair.only_new)} only in {new}"] if pair.only_new else []
    unchanged = [name for name, pair in difference.unchanged.items() if not (pair.same_keys and pair.parameters)]
    lists = [
        ("Unchanged, with the same predictions, so not compared", unchanged),
        ("Not compared, without a seed that both sides have", difference.unpaired),
        (f"Only in {old}", difference.only_old),
        (f"Only in {new}", difference.only_new),
        ("Without runs on either side", difference.without_runs),
    ]
    return remarks + [f"{what}: {', '.join(names)}" for what, names in lists if names]


def _why(pair: Pair) -> list[str]:
    """Why the runs of a variant differ, as far as git knows."""
    reasons = [params.in_words(pair.parameters)] if pair.parameters else []
    if pair.old.data != pair.new.data:
        reasons.append("other training data")
    if pair.same_keys:
        reasons.append("the same keys but other predictions, so made on another machine, or edited")
    elif not reasons:
        reasons.append("the same parameters and data, so other code or library versions")
    return reasons


def _seeds(seeds: list[int]) -> str:
    return f"{'seed' if len(seeds) == 1 else 'seeds'} {', '.join(map(str, seeds))}"


@gate.command
def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m stages.compare", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("old", metavar="REV", help="the older side: a commit, branch, tag or DVC experiment")
    parser.add_argument("new", metavar="REV", nargs="?", help="the newer side; without it the working tree")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="for programs")
    form.add_argument("--markdown", action="store_true", help="for pull requests")
    gate.add_arguments(parser)
    arguments = parser.parse_args()
    asked = gate.from_arguments(arguments)
    difference = compare(read_side(arguments.old), read_side(arguments.new))
    reasons = asked.reasons(findings(difference))
    says = gate.lines(asked, reasons)
    if arguments.json:
        print(files.json_bytes(as_json(difference) | {"gate": gate.as_json(asked, reasons)}).decode(), end="")
    else:
        print((as_markdown if arguments.markdown else as_text)(difference, says), end="")
    gate.close(reasons, says)


if __name__ == "__main__":
    main()
