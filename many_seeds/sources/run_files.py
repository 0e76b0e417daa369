"""Tables from one file, from several, or from the files of all runs, which a pattern names."""

import glob
import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from many_seeds.errors import UserError
from many_seeds.output.messages import listed
from many_seeds.sources.scores import first_duplicate
from many_seeds.sources.tables import BY
from many_seeds.sources.text_files import read_table

FIELD = re.compile(r"\{(\w+)\}")


def read_tables(sources: Sequence[str], text_columns: Sequence[str]) -> pd.DataFrame:
    """One table of all files, with a column for each field of a pattern.

    Args:
        sources: paths, or patterns in which {variant}, {seed} or another name stands for a part of the path, and * for
            any text within a part. Of several files without a column variant, each is a variant, called as the file.
        text_columns: see `text_files.read_table`.

    Returns:
        The table; its index has the line of each row, with the file if there are several.

    Raises:
        UserError: no file matches a pattern, a field is no name, a file has a column of the same name as a field with
            other values, several files have no variant, or see `text_files.read_table`.
    """
    files = [found for source in sources for found in _matching(source)]
    if len(files) == 1 and not files[0][1]:
        return read_table(files[0][0], text_columns)
    if (again := first_duplicate(path for path, _ in files)) is not None:
        raise UserError(f"{again} is named twice: expected each file once")
    text_columns = [*text_columns, *(name for _, fields in files[:1] for name in fields)]
    tables = [_with_fields(read_table(path, text_columns), path, fields) for path, fields in files]
    if not any(fields or BY in table.columns for (_, fields), table in zip(files, tables, strict=True)):
        _name_variants([path for path, _ in files], tables)
    return pd.concat(tables)


def _matching(source: str) -> list[tuple[str, dict[str, str]]]:
    """The files of a path or pattern, each with the values of its fields."""
    if not FIELD.search(source) or Path(source).exists():
        return [(source, {})]
    parts = FIELD.split(source)  # text and names of fields in turns
    if numbers := [name for name in parts[1::2] if not name.isidentifier()]:
        raise UserError(f"a field of a pattern should be a name, such as {{variant}}, received {{{numbers[0]}}}")
    pattern = "".join(glob.escape(text) if place % 2 == 0 else "*" for place, text in enumerate(parts))
    pattern = pattern.replace("[*]", "*")
    expression, known = "", set[str]()
    for place, text in enumerate(parts):
        if place % 2 == 0:
            expression += re.escape(text).replace(r"\*\*/", "(?:.*/)?").replace(r"\*\*", ".*").replace(r"\*", "[^/]*")
        else:
            expression += f"(?P={text})" if text in known else f"(?P<{text}>[^/]+)"
            known.add(text)
    paths = sorted(glob.glob(pattern, recursive=True), key=_natural)
    matches = [(path, match) for path in paths if (match := re.fullmatch(expression, path)) and Path(path).is_file()]
    if not matches:
        raise UserError(f"no file matches {source!r} (as {pattern}): {_existing(pattern)}")
    return [(path, match.groupdict()) for path, match in matches]


def _natural(path: str) -> list[str | int]:
    """A key by which numbers are in their order: 2 before 10."""
    return [int(part) if place % 2 else part for place, part in enumerate(re.split(r"(\d+)", path))]


def _existing(pattern: str) -> str:
    """What the last folder of a pattern has that exists."""
    folder = Path(pattern.partition("*")[0].rpartition("/")[0])
    while not folder.is_dir():
        folder = folder.parent
    return f"the folder {folder} has {listed(sorted(path.name for path in folder.iterdir()))}"


def _with_fields(table: pd.DataFrame, path: str, fields: dict[str, str]) -> pd.DataFrame:
    for name, value in fields.items():
        if name in table.columns and not (table[name].astype(str) == value).all():
            raise UserError(
                f"{path} has a column {name!r} with other values than the path: give the field of the pattern another "
                "name, or * in its place"
            )
    labels = [f"{path}, {table.index.name} {label:,}" for label in table.index]
    return table.assign(**fields).set_axis(pd.Index(labels, dtype=object), axis=0)


def _name_variants(paths: Sequence[str], tables: list[pd.DataFrame]) -> None:
    """Name the variant of each file by its name.

    Raises:
        UserError: files in different folders have one name.
    """
    names = [Path(path).stem for path in paths]
    if first_duplicate(names) is not None:
        raise UserError(
            f"{len(paths):,} files called {listed(sorted({Path(path).name for path in paths}))}: name the variant and "
            f"the seed in their paths, by a pattern in quotes such as {_suggestion(paths)!r}"
        )
    for place, name in enumerate(names):
        tables[place] = tables[place].assign(**{BY: name})


def _suggestion(paths: Sequence[str]) -> str:
    """A pattern of the paths, with {variant} for the first part that differs and {seed} for the last."""
    split = [path.split("/") for path in paths]
    parts = list(split[0])
    differing = [place for place in range(len(parts)) if len({tuple(one[place : place + 1]) for one in split}) > 1]
    if len(differing) < 2 or len(set(map(len, split))) > 1:
        return "runs/{variant}/{seed}/metrics.csv"
    parts[differing[0]], parts[differing[-1]] = "{variant}", "{seed}"
    return "/".join("*" if place in differing[1:-1] else part for place, part in enumerate(parts))
