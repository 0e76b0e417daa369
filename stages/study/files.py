"""The formats of a study's files: written atomically, read with a clear error; and digests."""

import hashlib
import io
import json
import os
import shutil
from collections.abc import Sequence
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
from stages.study.arrays import read_npz, write_npz


def read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid JSON ({error}): delete it and run `dvc repro`") from error


def write_table(path: Path, table: pd.DataFrame) -> None:
    write_bytes(path, csv_bytes(table))


def csv_bytes(table: pd.DataFrame) -> bytes:
    # 8 digits are more than a score of 10,000 images has, and a float32 loss: the text round-trips what matters.
    return table.to_csv(index=False, float_format="%.8g", lineterminator="\n").encode()


def read_table(path: Path, columns: list[str], *, more: bool = False) -> pd.DataFrame:
    """Read a CSV file of this study.

    Raises:
        UserError: the file is missing or damaged, or its columns are not `columns` (with `more`: lack one of them).
    """
    try:
        with path.open("rb") as file:
            return parse_table(file, str(path), columns, more=more)
    except FileNotFoundError:
        raise UserError(f"{path} is missing: run `dvc repro`") from None


def parse_table(
    file: IO[bytes], source: str, columns: list[str], *, more: bool = False, text: Sequence[str] = ()
) -> pd.DataFrame:
    """Read an open CSV file of this study.

    Args:
        file: the content.
        source: what errors call it.
        columns: that it should have.
        more: it may have others, too.
        text: columns that are text, even where they look like numbers.

    Raises:
        UserError: the file is damaged, or its columns are not `columns` (with `more`: lack one of them).
    """
    try:
        table = pd.read_csv(file, dtype=dict.fromkeys(text, str))
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise UserError(f"{source} is not a CSV file ({error}): restore it with git, or run `dvc repro`") from error
    if not (set(columns) <= set(table.columns) if more else list(table.columns) == columns):
        raise UserError(f"{source} should have the columns {columns}, found {list(table.columns)}: run `dvc repro`")
    return table


def yaml_values(text: str, source: str, kind: str = "safe") -> Any:
    """What a YAML text says, by the parser that DVC reads params.yaml with, so that both see the same values.

    kind: of ruamel.yaml's loaders; "rt" keeps places and comments.

    Raises:
        UserError: it is not valid; `source` says where it came from.
    """
    from ruamel.yaml import YAML, YAMLError  # only here: most of what reads files does without it

    try:
        return YAML(typ=kind).load(text)
    except (YAMLError, ValueError, AttributeError, RecursionError) as error:  # the last three of the parser's own code
        raise UserError(f"{source} is not valid YAML: {error}") from error


def write_yaml(path: Path, value: Any) -> None:
    """Write plain values as YAML, mappings in their order, a line for each value."""
    from ruamel.yaml import YAML  # only here, see above

    yaml, text = YAML(), io.StringIO()
    yaml.width = 10_000
    yaml.dump(value, text)
    write_bytes(path, text.getvalue().encode())


def write_arrays(path: Path, *, compressed: bool = False, **arrays: np.ndarray) -> None:
    """Write arrays to an .npz file whose bytes depend on the arrays alone; `compressed` for files that git keeps."""
    with written_whole(path) as unfinished:
        write_npz(unfinished, arrays, compressed=compressed)


def read_arrays(path: Path, *names: str) -> dict[str, np.ndarray]:
    """Read the named arrays of an .npz file, or all, without pickle.

    Raises:
        UserError: the file is missing or damaged.
    """
    try:
        with path.open("rb") as file:
            return parse_arrays(file, str(path), *names)
    except FileNotFoundError:
        raise UserError(f"{path} is missing: run `dvc repro`") from None


def parse_arrays(file: IO[bytes], source: str, *names: str) -> dict[str, np.ndarray]:
    """Read the named arrays of an open .npz file, or all, without pickle; errors call it `source`.

    Raises:
        UserError: the file is damaged.
    """
    try:
        return read_npz(file, names)
    # NumPy, zip and bzip2 each have errors of their own for a damaged file.
    except Exception as error:
        # Without NumPy's advice how to load a pickle all the same.
        raise UserError(
            f"{source} is damaged ({str(error).partition('. ')[0]}): delete it and run `dvc repro`"
        ) from error


def digest(*parts: bytes | np.ndarray | str) -> str:
    """SHA-256 over the parts, arrays by shape, type and content; hexadecimal."""
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
    """Delete what lies in `folder` under names that are not `known`, such as the runs of a seed no longer asked for."""
    if folder.is_dir():
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
            if entry.name not in known:
                shutil.rmtree(entry.path) if entry.is_dir(follow_symlinks=False) else os.unlink(entry.path)
