"""A difference as text for a terminal, as Markdown, and as JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from many_seeds.output import text
from tools.compare.changes import Changed, VariantChange
from tools.compare.difference import Difference
from tools.compare.findings import findings, headline
from tools.compare.remarks import remarks, settings_remarks


def as_text(difference: Difference, gate_lines: Sequence[str] = ()) -> str:
    """The verdicts, the table of results with its guarantee, remarks, and whether the gate passed."""
    verdicts = [f"{verdict}: {variants}" for verdict, variants in headline(difference)]
    paragraphs = [_title(difference), _filled(settings_remarks(difference)), _filled(verdicts)]
    if difference.results:
        header, cells = _table(difference)
        table = text.fitting(text.aligned(header, cells, left=2), header, cells)
        paragraphs += [table, _filled(_notes(difference), "")]
    paragraphs += [_filled(remarks(difference)), _filled(gate_lines)]
    return "\n\n".join(filter(None, paragraphs)) + "\n"


def as_markdown(difference: Difference, gate_lines: Sequence[str] = ()) -> str:
    """The same as Markdown for pull requests, with the gate first."""
    verdicts = [f"**{verdict}**: {text.escaped(variants)}" for verdict, variants in headline(difference)]
    paragraphs = [f"## {text.escaped(_title(difference))}", text.bullets(gate_lines)]
    paragraphs += [text.bullets(settings_remarks(difference)), "\\\n".join(verdicts)]
    if difference.results:
        paragraphs += [text.markdown(*_table(difference)), *map(text.escaped, _notes(difference))]
    paragraphs.append(text.bullets(remarks(difference)))
    return "\n\n".join(filter(None, paragraphs)) + "\n"


def _filled(lines: Sequence[str], indent: str = "  ") -> str:
    return "\n".join(text.filled(line, indent) for line in lines)


def _title(difference: Difference) -> str:
    label = difference.score.label
    return f"{label[:1].upper()}{label[1:]}: {difference.old.label} → {difference.new.label}"


def _table(difference: Difference) -> tuple[list[str], list[list[str]]]:
    """Header and cells of the results."""
    _, _, *header = text.header(difference.results)
    return ["variant", *header], [[cell for cell, _ in row] for _, *row in text.rows(difference.results)]


def _notes(difference: Difference) -> list[str]:
    sides = f"a: {difference.old.label}; b: {difference.new.label}."
    first, *others = text.guarantee(difference.results)
    return [f"{sides} {first}", *others]


def as_json(difference: Difference) -> dict[str, Any]:
    """The same as JSON values; a value that does not exist is None."""
    old, new = difference.old, difference.new
    return {
        "old": {"name": old.label, "commit": old.commit},
        "new": {"name": new.label, "commit": new.commit},
        "settings": difference.settings.model_dump(),
        "settings_of": "old" if difference.settings_side is old else "new",
        "other_settings": _both_values(difference.other_settings),
        "verdicts": [asdict(found) for found in findings(difference)],
        "changed": [_result_fields(row, difference) for row in difference.results.to_dict()["results"]],
        "unchanged": _variants(difference.unchanged),
        "not_compared": _variants(difference.unpaired | difference.without_score),
        "not_retrained": _variants(difference.not_retrained),
        "missing": {
            "variants": {
                "old": difference.only_new,
                "new": difference.only_old,
                "both": difference.without_runs,
            },
            "seeds": _missing_seeds(difference.changes),
        },
    }


def _result_fields(row: Mapping[str, Any], difference: Difference) -> dict[str, Any]:
    change = difference.changed[row["b"]]
    fields = {name: value for name, value in row.items() if name not in ("a", "b")}
    return {"variant": row["b"]} | fields | _change_fields(change)


def _variants(changes: Mapping[str, VariantChange]) -> list[dict[str, Any]]:
    return [{"variant": name} | _change_fields(change) for name, change in changes.items()]


def _change_fields(change: VariantChange) -> dict[str, Any]:
    old, new = change.processors
    return {
        "seeds": change.new.seeds,
        "parameters": _both_values(change.parameters),
        "same_data": change.same_data,
        "same_keys": change.same_keys,
        "training": asdict(change.training),
        "evaluation": asdict(change.evaluation),
        "processors": {"old": old, "new": new},
    }


def _missing_seeds(changes: Mapping[str, VariantChange]) -> dict[str, dict[str, list[int]]]:
    """Variant → the seeds that either side lacks; variants that lack none are left out."""
    incomplete = {name: change for name, change in changes.items() if change.only_new or change.only_old}
    return {name: {"old": change.only_new, "new": change.only_old} for name, change in incomplete.items()}


def _both_values(changed: Changed) -> dict[str, dict[str, Any]]:
    return {name: {"old": old, "new": new} for name, (old, new) in changed.items()}
