"""Write the list of modules in docs/architecture.md from the docstrings: `python -m tools.architecture`."""

import ast
from pathlib import Path

from many_seeds import files
from many_seeds.commands import console
from many_seeds.errors import UserError

PAGE = Path("docs/architecture.md")
BEGIN, END = "<!-- modules -->", "<!-- /modules -->"
PACKAGES = ("many_seeds", "stages", "tools")


def modules(root: Path = Path()) -> str:
    """The list of modules in Markdown, with the first sentence of each docstring.

    Args:
        root: the top folder of the checkout.

    Raises:
        UserError: a module has no docstring.
    """
    lines: list[str] = []
    for package in PACKAGES:
        folders = sorted(path.parent for path in (root / package).rglob("__init__.py"))
        for folder in folders:
            name = folder.relative_to(root).as_posix()
            lines += [f"### {name}/", "", docstring(folder / "__init__.py", root), ""]
            names = sorted(path for path in folder.glob("*.py") if path.name != "__init__.py")
            if names:
                lines += ["| module | |", "| --- | --- |"]
                lines += [f"| `{path.name}` | {first_sentence(docstring(path, root))} |" for path in names]
                lines.append("")
    return "\n".join(lines)


def docstring(path: Path, root: Path) -> str:
    """The docstring of a module, its lines joined.

    Raises:
        UserError: it has none.
    """
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    if not text:
        raise UserError(f"{path.relative_to(root)} should begin with a docstring that says what belongs in it")
    return " ".join(text.split())


def first_sentence(text: str) -> str:
    """The text up to its first full stop that ends a sentence, without it."""
    return text.partition(". ")[0].removesuffix(".")


def page(text: str, root: Path = Path()) -> str:
    """The text of the page with the list of modules between its markers.

    Raises:
        UserError: a marker is missing, or a module has no docstring.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise UserError(f"{PAGE} should have the markers {BEGIN} and {END}, between which the modules are listed")
    return f"{before}{BEGIN}\n{modules(root)}{END}{after}"


@console.command
def main() -> None:
    console.take_no_arguments("tools.architecture", __doc__)
    files.write_bytes(PAGE, page(PAGE.read_text(encoding="utf-8")).encode())


if __name__ == "__main__":
    main()
