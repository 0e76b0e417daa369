"""Read and write the files of a study, with atomic writes and clear errors; and digests."""

import contextlib
import copy
import functools
import hashlib
import io
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import pandas as pd

from many_seeds.errors import UserError
from many_seeds.files import json_bytes as json_bytes
from many_seeds.files import write_bytes as write_bytes
from many_seeds.files import write_folder as write_folder
from many_seeds.files import write_json as write_json
from many_seeds.files import written_whole as written_whole
from stages.study.records.arrays import read_npz, write_npz


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        FileNotFoundError: the file is missing.
        UserError: the file is damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid JSON ({error}): delete it and run `dvc repro`") from error


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table as CSV, without its index."""
    write_bytes(path, csv_bytes(table))


def csv_bytes(table: pd.DataFrame) -> bytes:
    """A table as CSV, without its index."""
    # 8 digits represent scores of 10,000 images, and losses in float32, without loss.
    return table.to_csv(index=False, float_format="%.8g", lineterminator="\n").encode()


def read_table(path: Path, columns: list[str], *, more: bool = False) -> pd.DataFrame:
    """Read a CSV file of this study.

    Args:
        path: the file.
        columns: its expected columns.
        more: whether it may have other columns, too.

    Raises:
        UserError: the file is missing or damaged, or it has other columns.
    """
    try:
        with path.open("rb") as file:
            return parse_table(file, str(path), columns, more=more)
    except FileNotFoundError:
        raise UserError(f"{path} is missing: run `dvc repro`") from None


def parse_table(
    file: IO[bytes],
    source: str,
    columns: list[str],
    *,
    more: bool = False,
    text: Sequence[str] = (),
    remedy: str = "restore it with git, or run `dvc repro`",
) -> pd.DataFrame:
    """Read an open CSV file of this study.

    Args:
        file: the content.
        source: its name in errors.
        columns: its expected columns.
        more: whether it may have other columns, too.
        text: columns to read as text, even if they look like numbers.
        remedy: the end of errors.

    Raises:
        UserError: the file is damaged, or it has other columns.
    """
    try:
        table = _read_csv(file.read(), tuple(text)).copy()
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise UserError(f"{source} is not a CSV file ({error}): {remedy}") from error
    if not (set(columns) <= set(table.columns) if more else list(table.columns) == columns):
        raise UserError(f"{source} should have the columns {columns}, received {list(table.columns)}: {remedy}")
    return table


@functools.lru_cache(maxsize=256)  # commands ask several times; two commits have most files in common
def _read_csv(content: bytes, text: tuple[str, ...]) -> pd.DataFrame:
    return pd.read_csv(io.BytesIO(content), dtype=dict.fromkeys(text, str))


def yaml_values(text: str, source: str, kind: str = "safe") -> Any:
    """Parse YAML with ruamel.yaml, as DVC does, so that both read the same values.

    Args:
        text: the YAML.
        source: its name in errors.
        kind: a loader of ruamel.yaml; "rt" keeps line numbers and comments.

    Raises:
        UserError: the text is not valid YAML.
    """
    from ruamel.yaml import YAML, YAMLError  # imported here because most readers do not need it

    try:
        return copy.deepcopy(_safe_values(text)) if kind == "safe" else YAML(typ=kind).load(text)
    except (YAMLError, ValueError, AttributeError, RecursionError) as error:  # the last three by bugs of the parser
        raise UserError(f"{source} is not valid YAML: {error}") from error


@functools.lru_cache(maxsize=8)  # commands read params.yaml several times, and that of a commit is often the same
def _safe_values(text: str) -> Any:
    from ruamel.yaml import YAML

    return YAML(typ="safe", pure=True).load(text)  # the parser in C ends the process at deep nesting


def write_yaml(path: Path, value: Any) -> None:
    """Write dicts, lists and scalars as YAML, in their order and without line breaks within values."""
    from ruamel.yaml import YAML  # imported here for the same reason

    yaml, text = YAML(), io.StringIO()
    yaml.width = 10_000
    yaml.dump(value, text)
    write_bytes(path, text.getvalue().encode())


def write_arrays(path: Path, *, compressed: bool = False, **arrays: np.ndarray) -> None:
    """Write arrays to an .npz file whose bytes depend on the arrays alone.

    Args:
        path: the file.
        compressed: whether to compress it, for files in git.
        **arrays: name → array.
    """
    with written_whole(path) as unfinished:
        write_npz(unfinished, arrays, compressed=compressed)


def read_arrays(path: Path, *names: str) -> dict[str, np.ndarray]:
    """Read arrays of an .npz file, without pickle.

    Args:
        path: the file.
        *names: the arrays; all by default.

    Raises:
        UserError: the file is missing or damaged.
    """
    try:
        with path.open("rb") as file:
            return parse_arrays(file, str(path), *names)
    except FileNotFoundError:
        raise UserError(f"{path} is missing: run `dvc repro`") from None


def parse_arrays(file: IO[bytes], source: str, *names: str) -> dict[str, np.ndarray]:
    """Read arrays of an open .npz file, without pickle.

    Args:
        file: the content.
        source: its name in errors.
        *names: the arrays; all by default.

    Raises:
        UserError: the file is damaged.
    """
    with damage_reported(source):
        return read_npz(file, names)


@contextlib.contextmanager
def damage_reported(source: str, remedy: str = "delete it and run `dvc repro`") -> Iterator[None]:
    """Reads an .npz file, called `source` in the UserError about a damaged one, which ends with `remedy`."""
    try:
        yield
    # NumPy, zipfile and bz2 raise many types of errors for damaged files.
    except Exception as error:
        # The first sentence only: NumPy adds advice to allow pickle.
        raise UserError(f"{source} is damaged ({str(error).partition('. ')[0]}): {remedy}") from error


def digest(*parts: bytes | np.ndarray | str) -> str:
    """SHA-256 of several parts, arrays by dtype, shape and content.

    Returns:
        64 hexadecimal digits.
    """
    total = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            total.update(f"{part.dtype.str}{part.shape}".encode())
            total.update(np.ascontiguousarray(part).data)
        else:
            content = part.encode() if isinstance(part, str) else part
            total.update(f"{len(content)}:".encode())
            total.update(content)
    return total.hexdigest()


def remove_unknown(folder: Path, known: set[str]) -> None:
    """Delete the files and folders in a folder whose names are not `known`, such as runs of removed seeds."""
    if folder.is_dir():
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
            if entry.name not in known:
                shutil.rmtree(entry.path) if entry.is_dir(follow_symlinks=False) else os.unlink(entry.path)
