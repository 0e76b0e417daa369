"""JSON documents as tables: a list of rows, columns, a trainer's state, a benchmark's timings, one run's results."""

from collections.abc import Iterator, Mapping
from typing import Any

from many_seeds.errors import UserError

Row = dict[str, Any]
SCALAR = (str, int, float, bool, type(None))


def rows_of(document: Any, name: str) -> list[Row]:
    """The rows of a JSON document.

    A list of objects has a row for each. An object of columns, as pandas writes it, has their rows. The state of a
    trainer (`log_history`) has those of its log, and the file of hyperfine, pytest-benchmark or Google Benchmark one
    for each measurement. Any other object is one run: one row, in which a nested value is called "outer.inner".

    Args:
        document: the parsed document.
        name: how errors call its file.

    Raises:
        UserError: it is neither a list of objects nor an object, or is empty.
    """
    if isinstance(document, list) and document and all(isinstance(row, dict) for row in document):
        return [_flat(row) for row in document]
    if not isinstance(document, dict) or not document:
        raise UserError(
            f"{name} is a JSON document, but neither a list of objects, one for each run, nor an object with "
            "the scores: write such a list, or one object per line"
        )
    if isinstance(document.get("log_history"), list):
        return [_flat(row) for row in document["log_history"]]
    if timings := list(_timings(document)):
        return timings
    return _columns(document) or [_flat(document)]


def _timings(document: Row) -> Iterator[Row]:
    """A row for each measurement of a benchmark tool: the variant and the time."""
    for entry in _objects(document.get("results")):  # hyperfine
        if isinstance(entry.get("times"), list) and "command" in entry:
            for time in entry["times"]:
                yield {"variant": entry["command"], "time": time}
    for entry in _objects(document.get("benchmarks")):
        data = entry.get("stats", {}).get("data") if isinstance(entry.get("stats"), dict) else None
        for time in data or []:  # pytest-benchmark
            yield {"variant": entry.get("name"), "time": time}
        if entry.get("run_type") == "iteration":  # Google Benchmark
            yield {"variant": entry.get("run_name", entry.get("name")), "time": entry.get("real_time")}


def _objects(value: Any) -> list[Row]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def _columns(document: Row) -> list[Row]:
    """The rows of an object of columns, which are lists of one length or objects with the same keys; else none."""
    columns = list(document.values())
    if all(isinstance(column, dict) for column in columns):
        keys = list(columns[0])
        if len(keys) > 1 and all(key.isdecimal() for key in keys) and all(list(column) == keys for column in columns):
            return [{name: column[key] for name, column in document.items()} for key in keys]
    lists = all(isinstance(column, list) for column in columns) and len(set(map(len, columns))) == 1
    if not lists or not all(isinstance(value, SCALAR) for column in columns for value in column):
        return []
    return [dict(zip(document, values, strict=True)) for values in zip(*columns, strict=True)]


def _flat(row: Mapping[str, Any], prefix: str = "") -> Row:
    """An object with the values of nested objects as "outer.inner"; lists are left out."""
    flat: Row = {}
    for key, value in row.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        elif not isinstance(value, list):
            flat[f"{prefix}{key}"] = value
    return flat
