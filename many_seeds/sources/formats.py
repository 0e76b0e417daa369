"""The format of a file by its content: text as UTF-8, and other formats with the way to convert them."""

import codecs
import re

from many_seeds.errors import UserError

PANDAS = "python -c \"import pandas as pd; pd.{read}('{name}').to_csv('scores.csv', index=False)\""
UNPACK = "unpack it first: `{command} {name} | many-seeds verdict -`"
# The first bytes of a file, the name of its format, and the way out.
FORMATS: tuple[tuple[bytes | tuple[bytes, ...], str, str, str], ...] = (
    (b"PAR1", "a Parquet file", f"convert it: `{PANDAS}`", "read_parquet"),
    (b"ARROW1", "an Arrow or Feather file", f"convert it: `{PANDAS}`", "read_feather"),
    (b"PK\x03\x04", "a ZIP archive, such as a workbook of Excel or an .npz file", "save its table as CSV", ""),
    (b"\xd0\xcf\x11\xe0", "a workbook of Excel", "save its table as CSV", ""),
    (b"\x1f\x8b", "compressed with gzip", UNPACK, "gunzip -c"),
    (b"BZh", "compressed with bzip2", UNPACK, "bunzip2 -c"),
    (b"\xfd7zXZ", "compressed with xz", UNPACK, "xz -dc"),
    (b"\x28\xb5\x2f\xfd", "compressed with Zstandard", UNPACK, "zstd -dc"),
    (
        b"SQLite format 3\0",
        "a database of SQLite",
        "if MLflow wrote it, `MLFLOW_TRACKING_URI=sqlite:///{name} many-seeds verdict --mlflow EXPERIMENT`; else "
        "export the table of runs as CSV",
        "",
    ),
    (b"\x89HDF", "an HDF5 file", "write its scores as CSV", ""),
    (b"\x93NUMPY", "an array of NumPy", "pass it to many_seeds.compare, or write its scores as CSV", ""),
    (
        (b"\x80\x04", b"\x80\x05"),
        "a pickle of Python",
        "pass its object to many_seeds.compare, or write its scores as CSV",
        "",
    ),
    (b"%PDF", "a PDF document", "type its table as CSV", ""),
    (b"<", "an HTML or XML document", "save its table as CSV", ""),
    (b"\\begin", "a LaTeX table", "save it as CSV", ""),
)
UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
MARKDOWN = (
    "is a Markdown table: expected CSV. Convert it: `grep -v '^| *[-:]' {name} | sed 's/^| *//; s/ *|$//; s/ *| */,/g'"
    " | many-seeds verdict -`"
)


def as_utf8(content: bytes, name: str) -> bytes:
    """The text of a file in UTF-8, without a byte-order mark and with \\n at the ends of lines.

    Args:
        content: the file; UTF-16 is read if it begins with a byte-order mark.
        name: how errors call it.

    Raises:
        UserError: the file has another format, which the error names with the way out.
    """
    if content.startswith(UTF_16):
        try:
            content = content.decode("utf-16").encode()
        except UnicodeDecodeError as error:
            raise UserError(f"{name} begins as text in UTF-16, but is damaged ({error}): save it as UTF-8") from error
    content = content.removeprefix(codecs.BOM_UTF8).replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    _check_not_binary(content, name)
    _check_not_for_people(content.lstrip()[:4096], name)
    return content


def _check_not_binary(content: bytes, name: str) -> None:
    for start, kind, advice, command in FORMATS:
        if content.startswith(start):
            raise UserError(
                f"{name} is {kind}: expected CSV or JSON; {advice.format(name=name, read=command, command=command)}"
            )
    if "tfevents" in name:
        raise UserError(
            f"{name} is a log of TensorBoard: expected CSV or JSON; write one score for each run as CSV, or download "
            "the curve of each run and name them as 'runs/{variant}/{seed}.csv' with --at last"
        )
    if b"\0" in content[:4096]:
        encoding = "UTF-16LE" if content[1:2] == b"\0" else "UTF-16BE" if content[:1] == b"\0" else ""
        way_out = f"convert it: `iconv -f {encoding} -t UTF-8 {name}`" if encoding else "expected CSV or JSON"
        raise UserError(f"{name} is not text in UTF-8: {way_out}")


def _check_not_for_people(start: bytes, name: str) -> None:
    """Raise a UserError for tables that are made for people: Markdown, boxes, columns aligned with blanks."""
    first_line = start.partition(b"\n")[0]
    if first_line.startswith(b"|"):
        raise UserError(f"{name} {MARKDOWN.format(name=name)}")
    if first_line.startswith((b"+-", "┌".encode(), "┏".encode(), "╒".encode(), "╭".encode())):
        raise UserError(f"{name} is a table with drawn borders: expected CSV; save it as CSV")
    if not re.search(rb"^#|[,;\t{\[]", first_line) and re.search(rb"\S\s{2,}\S|\S \S+ \S", first_line):
        raise UserError(
            f"{name} is text with columns separated by blanks, as a printed data frame or a log: expected CSV; "
            "write it with `to_csv`, or convert it: "
            f"`sed 's/^ *//; s/  */,/g' {name} | many-seeds verdict -`"
        )
