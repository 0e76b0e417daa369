"""What changed between two commits, with error bars: `dvc metrics diff` for scores over many seeds.

`python -m tools.compare REV` compares the working tree with REV, `python -m tools.compare OLD NEW` two revisions.
Everything is read from git or from the files of the working tree: no models, no data set, no DVC.
With --fail-on it is a gate: exit status 0, 1 where it fails, 2 for an error.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from many_seeds import console, gate, text
from stages.study import files, params
from stages.study.environments import kind
from tools.compare.changes import (
    Difference,
    Pair,
    alike,
    compare,
    describe_seeds,
    findings,
    headline,
    image_error,
    without_change,
)
from tools.compare.revisions import read_side


def as_text(difference: Difference, gate_lines: Sequence[str] = ()) -> str:
    """The verdicts, an aligned table with its guarantee, what else differs, and whether the gate passed."""
    verdicts = [f"{verdict}: {variants}" for verdict, variants in headline(difference)]
    paragraphs = [_title(difference), _filled(_settings_used(difference)), _filled(verdicts)]
    if difference.results:
        paragraphs += [text.aligned(*_table(difference), left=2), _filled(_notes(difference), "")]
    paragraphs += [_filled(_remarks(difference)), _filled(gate_lines)]
    return "\n\n".join(filter(None, paragraphs)) + "\n"


def as_markdown(difference: Difference, gate_lines: Sequence[str] = ()) -> str:
    """The same for pull requests, the gate first."""
    verdicts = [f"**{verdict}**: {text.escaped(variants)}" for verdict, variants in headline(difference)]
    paragraphs = [f"## {text.escaped(_title(difference))}", text.bullets(gate_lines)]
    paragraphs += [text.bullets(_settings_used(difference)), "\\\n".join(verdicts)]
    if difference.results:
        paragraphs += [text.markdown(*_table(difference)), *map(text.escaped, _notes(difference))]
    paragraphs.append(text.bullets(_remarks(difference)))
    return "\n\n".join(filter(None, paragraphs)) + "\n"


def _filled(lines: Sequence[str], indent: str = "  ") -> str:
    return "\n".join(text.filled(line, indent) for line in lines)


def _title(difference: Difference) -> str:
    return f"Test accuracy: {difference.old.label} → {difference.new.label}"


def _table(difference: Difference) -> tuple[list[str], list[list[str]]]:
    """Header and cells of the results."""
    _, _, *header = text.header(difference.results)
    cells = []
    for result, (_, *row) in zip(difference.results, text.rows(difference.results), strict=True):
        error = text.number(image_error(difference.changed[result.b]), "{:.3f}")
        cells.append([*(shown for shown, _ in row), error])
    return ["variant", *header, "± test images"], cells


def _notes(difference: Difference) -> list[str]:
    sides = f"a: {difference.old.label}; b: {difference.new.label}."
    first, *others = text.guarantee(difference.results)
    return [f"{sides} {first}", *others]


def as_json(difference: Difference) -> dict[str, Any]:
    """The same for programs, as values that JSON knows; a value that does not exist is None."""
    old, new = difference.old, difference.new
    return {
        "old": {"name": old.label, "commit": old.commit},
        "new": {"name": new.label, "commit": new.commit},
        "settings": difference.settings.model_dump(),
        "settings_of": "old" if difference.judge is old else "new",
        "other_settings": {name: {"old": a, "new": b} for name, (a, b) in difference.other_settings.items()},
        "verdicts": [asdict(found) for found in findings(difference)],
        "changed": [
            {
                "variant": row["b"],
                **{name: value for name, value in row.items() if name not in ("a", "b")},
                "image_error": image_error(difference.changed[row["b"]]),
                **_facts(difference.changed[row["b"]]),
            }
            for row in difference.results.to_dict()["results"]
        ],
        "unchanged": [{"variant": name, **_facts(pair)} for name, pair in difference.unchanged.items()],
        "not_compared": [{"variant": name, **_facts(pair)} for name, pair in difference.unpaired.items()],
        "not_retrained": [{"variant": name, **_facts(pair)} for name, pair in difference.not_retrained.items()],
        "missing": {
            "variants": {
                "old": difference.only_new,
                "new": difference.only_old,
                "both": difference.without_runs,
            },
            "seeds": {
                name: {"old": pair.only_new, "new": pair.only_old}
                for name, pair in difference.pairs.items()
                if pair.only_new or pair.only_old
            },
        },
    }


def _facts(pair: Pair) -> dict[str, Any]:
    return {
        "seeds": pair.new.seeds,
        "parameters": {name: {"old": a, "new": b} for name, (a, b) in pair.parameters.items()},
        "same_data": pair.old.data == pair.new.data,
        "same_keys": pair.same_keys,
        "training": asdict(pair.training),
        "evaluation": asdict(pair.evaluation),
        "processors": dict(zip(("old", "new"), pair.processors, strict=True)),
    }


def _settings_used(difference: Difference) -> list[str]:
    """Whose settings count, where that is a question."""
    old, new = difference.old.label, difference.new.label
    named = {
        name: ("not given" if a is None else a, "not given" if b is None else b)
        for name, (a, b) in difference.other_settings.items()
    }
    if difference.judge is difference.new:
        other = f" ({params.describe_changes(named)})" if named else ""
        return [f"the statistics of {old} are of another version of this code{other}: judged with those of {new}"]
    return (
        [f"{new} has other statistics ({params.describe_changes(named)}): judged with those of {old}"] if named else []
    )


def _remarks(difference: Difference) -> list[str]:
    """A line for each thing that neither the table nor the headline says."""
    whys = [(name, params.describe_changes(pair.parameters)) for name, pair in difference.not_retrained.items()]
    whys += [(name, "; ".join(_why(pair))) for name, pair in difference.changed.items()]
    whys += [
        (name, f"{'; '.join(_why(pair))}; but the predictions are the same")
        for name, pair in difference.unchanged.items()
        if not pair.same_keys
    ]
    whys += [
        (name, "; ".join(_why(pair)))
        for name, pair in difference.unchanged.items()
        if pair.same_keys and pair.training.certified
    ]
    whys += [(name, words) for name, pair in difference.pairs.items() for words in _other_seeds(name, pair, difference)]
    remarks = [f"{', '.join(names)}: {words}" for words, names in alike(whys).items()]
    if same := without_change(difference):
        remarks.append(f"Unchanged, with the same predictions: {', '.join(same)}")
    return remarks


def _other_seeds(variant: str, pair: Pair, difference: Difference) -> Iterator[str]:
    """Which seeds only one side has; those that are lost are in the headline."""
    if given_up := [seed for seed in pair.only_old if seed not in pair.lost]:
        seeds = difference.new.recipes[variant].get("seeds")
        asked = "" if seeds is None else f", as its {params.PARAMS} asks for {seeds:,}"
        yield f"{describe_seeds(given_up)} not in {difference.new.label} any more{asked}"
    if pair.only_new:
        yield f"{describe_seeds(pair.only_new)} only in {difference.new.label}"


def _why(pair: Pair) -> list[str]:
    """Why the runs of a variant differ, as far as git knows."""
    reasons = [params.describe_changes(pair.parameters)] if pair.parameters else []
    if pair.old.data != pair.new.data:
        reasons.append("other training data")
    if pair.training.changes:
        reasons.append(f"another environment ({', '.join(pair.training.changes)})")
    if pair.evaluation.changes:
        reasons.append(f"evaluated in another environment ({', '.join(pair.evaluation.changes)})")
    if pair.same_keys and not pair.unchanged:
        reasons.append(f"same keys, other predictions{_source(pair)}")
    if pair.training.certified:
        reasons.append(f"another environment ({', '.join(pair.training.certified)}), certified to give the same bits")
    if not reasons and pair.training.recorded:
        reasons.append("the same parameters, data and environment, so another dev split, or edited")
    return reasons or ["the same parameters and data, so other code or library versions"]


def _source(pair: Pair) -> str:
    """What may have made other predictions under the same keys."""
    old, new = pair.processors
    kinds = [{kind(processor) for processor in side} for side in (old, new)]
    if not all(kinds):
        return ": perhaps on another kind of processor (not recorded), or edited"
    if kinds[0] == kinds[1]:
        return f", on the same kind of processor ({', '.join(new)}): edited, or not made as recorded"
    return f": made on another kind of processor ({', '.join(old)} → {', '.join(new)})"


@gate.command
def main() -> None:
    parser = console.Parser(
        prog="python -m tools.compare", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
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
    lines = gate.lines(asked, reasons)
    if arguments.json:
        print(files.json_bytes(as_json(difference) | {"gate": gate.as_json(asked, reasons)}).decode(), end="")
    else:
        print((as_markdown if arguments.markdown else as_text)(difference, lines), end="")
    gate.close(reasons, lines)


if __name__ == "__main__":
    main()
