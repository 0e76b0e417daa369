"""Digests of Python code that follow its imports: pure functions of the sources of stages/recipes.

The digest of a file is a Merkle digest: of its syntax tree, in which each import of another file of stages/recipes is
replaced with the imported name and the digest of that file. So an edit of a file changes the digests of all files that
import it, directly or not, and the names and places of files, comments, docstrings, layout and the texts of errors
change none. Imports by `importlib` are not followed.
"""

import ast
import functools
import itertools
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from many_seeds.errors import UserError
from stages.study import files

PACKAGE = "stages.recipes"  # of the sources
IGNORED = "many_seeds.errors"  # decides no result, so imports of it are left out

Sources = Mapping[str, str]  # file, such as "shared/rates.py" → its text


def closure(roots: Iterable[str], sources: Sources) -> list[str]:
    """The files that `roots` import, transitively, with the roots and the `__init__.py` of their packages.

    Args:
        roots: files. One that is not in `sources` imports nothing.
        sources: all files of the folder.

    Returns:
        The files, sorted.

    Raises:
        UserError: a file imports a package as a whole, or a module that is missing.
    """
    found, waiting = set[str](), list(roots)
    while waiting:
        file = waiting.pop()
        if file not in found:
            found.add(file)
            waiting += _packages(file, sources)
            waiting += [target for target, _ in _dependencies(file, sources).values()]
    return sorted(found)


@functools.lru_cache(maxsize=256)  # every variant of a study asks for that of its family
def import_digest(roots: tuple[str, ...], sources: tuple[tuple[str, str], ...]) -> str:
    """A digest of files and of what they import from one another, transitively.

    Args:
        roots: the files.
        sources: all files of the folder and their texts.

    Raises:
        UserError: files import one another in a cycle, a package as a whole, or a module that is missing.
    """
    by_file, digests = dict(sources), _known_digests(sources)
    reached = closure(roots, by_file)
    # The import of a module executes the packages around it. An empty one does nothing.
    packages = {package for file in reached for package in _packages(file, by_file)}
    packages = {package for package in packages if _parse(by_file[package]).body}
    return files.digest(*sorted({_digest(file, by_file, digests, ()) for file in {*roots, *packages}}))


@functools.lru_cache(maxsize=4)
def _known_digests(sources: tuple[tuple[str, str], ...]) -> dict[str, str]:
    """The digests of files that are known so far, which are added to it: families have most files in common."""
    return {}


def _digest(file: str, sources: Sources, digests: dict[str, str], path: tuple[str, ...]) -> str:
    """The digest of a file; `path` leads to it from a root, and `digests` are those known so far."""
    if file in path:
        cycle = " → ".join([*path[path.index(file) :], file])
        raise UserError(f"files in {PACKAGE.replace('.', '/')} should not import one another in a cycle: {cycle}")
    if file not in sources:
        raise UserError(f"{PACKAGE.replace('.', '/')}/{file} is missing")
    if file not in digests:
        tree = _parse(sources[file])
        own = {
            name: (_digest(target, sources, digests, (*path, file)), attribute)
            for name, (target, attribute) in _dependencies(file, sources).items()
        }
        module = module_name(file)
        digests[file] = files.digest(repr(shape(_ImportsByContent(tree, module, own).visit(tree))))
    return digests[file]


def module_name(file: Path | str, folder: Path | None = None) -> str:
    """The full name of the module in a file, given by its path in `folder`; of a package with `__init__` at its end."""
    relative = PurePosixPath(file if folder is None else Path(file).relative_to(folder).as_posix())
    return ".".join([PACKAGE, *relative.with_suffix("").parts])


def is_in(name: str, *packages: str) -> bool:
    """Whether a full name is one of these packages or modules, or lies in one."""
    return any(name == package or name.startswith(f"{package}.") for package in packages)


@functools.cache
def imported_names(source: str, module: str) -> list[str]:
    """The full names that a module imports, at its top or inside a function."""
    return [_full_name(node, alias.name, module) for node, alias in _imports(ast.parse(source))]


def _imports(tree: ast.AST) -> Iterator[tuple[ast.Import | ast.ImportFrom, ast.alias]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from ((node, alias) for alias in node.names)


def _full_name(node: ast.Import | ast.ImportFrom, name: str, module: str) -> str:
    """The full name of what an import of `module` imports."""
    if isinstance(node, ast.Import):
        return name
    above = module.split(".")[: -node.level] if node.level else []
    return ".".join([*above, *filter(None, [node.module]), name])


def _dependencies(file: str, sources: Sources) -> dict[str, tuple[str, str]]:
    """What a file imports from `PACKAGE`: full name → the file, and the name in it or "" for the module itself.

    Raises:
        UserError: it imports a package as a whole, or there is no such module.
    """
    names = imported_names(sources[file], module_name(file)) if file in sources else []
    return {name: _resolve(name, file, sources) for name in names if is_in(name, PACKAGE)}


def _resolve(name: str, file: str, sources: Sources) -> tuple[str, str]:
    """The file that a full name in `PACKAGE` lies in, and the name in it or "" for the module itself."""
    parts = name.split(".")[len(PACKAGE.split(".")) :]
    place, parent = "/".join(parts), "/".join(parts[:-1])
    if f"{place}.py" in sources:
        return f"{place}.py", ""
    is_package = any(other.startswith(f"{place}/") for other in sources)
    for candidate in (f"{parent}.py", f"{parent}/__init__.py".lstrip("/")):
        if parts and not is_package and candidate in sources:
            return candidate, parts[-1]
    raise UserError(
        f"{PACKAGE.replace('.', '/')}/{file} imports {name}: imports from {PACKAGE} should name a module, or what a "
        "module defines"
    )


def _packages(file: str, sources: Sources) -> list[str]:
    """The `__init__.py` of the folders around a file."""
    candidates = [(folder / "__init__.py").as_posix() for folder in PurePosixPath(file).parents]
    return [name for name in candidates if name in sources]


class _ImportsByContent(ast.NodeTransformer):
    """Replaces the names of imported modules with their digests, and sorts imports.

    An import becomes a statement `from <digest> import <name>` for each name. The name of a module in an expression,
    such as `rates` in `rates.by_step`, becomes the digest, unless the file binds the same name to something else too.

    Args:
        tree: of the file.
        module: its full name.
        own: what it imports from `PACKAGE`: full name → the digest of the file, and the name in it or "".
    """

    def __init__(self, tree: ast.Module, module: str, own: Mapping[str, tuple[str, str]]) -> None:
        self._module, self._own = module, own
        self._digests = self._modules(tree)

    def _modules(self, tree: ast.Module) -> dict[str, str]:
        """The expressions that stand for one imported module throughout the file, and the modules' digests."""
        found: dict[str, set[str]] = {}
        others = {*_bound_names(tree)}
        for node, alias in _imports(tree):
            digest, attribute = self._own.get(_full_name(node, alias.name, self._module), ("", ""))
            if digest and not attribute:
                found.setdefault(alias.asname or alias.name, set()).add(digest)
            else:
                others.add(alias.asname or alias.name)
        return {
            name: digest for name, (digest, *more) in found.items() if not more and name.partition(".")[0] not in others
        }

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        for name, value in ast.iter_fields(node):
            if isinstance(value, list):
                setattr(node, name, _with_sorted_imports(value))
        return node

    def visit_Import(self, node: ast.Import | ast.ImportFrom) -> list[ast.stmt]:
        found: list[ast.stmt] = []
        for alias in node.names:
            name = _full_name(node, alias.name, self._module)
            digest, attribute = self._own.get(name, ("", ""))
            bound: str | None = alias.asname or alias.name
            if digest:
                bound = None if bound in self._digests else bound
                found.append(ast.ImportFrom(digest, [ast.alias(attribute, bound)], 0))
            elif is_in(name, IGNORED):
                continue
            elif isinstance(node, ast.Import):
                found.append(ast.Import([alias]))
            else:
                found.append(ast.ImportFrom(node.module, [alias], node.level))
        return found

    visit_ImportFrom = visit_Import  # noqa: N815

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return ast.Name(self._digests[node.id], node.ctx) if node.id in self._digests else node

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        dotted = _dotted(node)
        return ast.Name(self._digests[dotted], node.ctx) if dotted in self._digests else self.generic_visit(node)


def _dotted(node: ast.expr) -> str:
    """An expression such as `a.b.c` as text; "" for others."""
    if isinstance(node, ast.Attribute):
        left = _dotted(node.value)
        return f"{left}.{node.attr}" if left else ""
    return node.id if isinstance(node, ast.Name) else ""


def _bound_names(tree: ast.Module) -> Iterator[str]:
    """The names that a file binds other than by imports: variables, arguments, functions, classes.

    But for attributes, keywords and constants, a string in a syntax tree is a name that a statement binds.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            yield node.id
        elif not isinstance(node, ast.Name | ast.Attribute | ast.alias | ast.keyword | ast.Constant | ast.ImportFrom):
            for _, value in ast.iter_fields(node):
                yield from (part for part in (value if isinstance(value, list) else [value]) if isinstance(part, str))


def _with_sorted_imports(nodes: list[Any]) -> list[Any]:
    """Statements with each run of imports sorted."""
    found: list[Any] = []
    for is_import, run in itertools.groupby(nodes, lambda node: isinstance(node, ast.Import | ast.ImportFrom)):
        statements = list(run)
        found += sorted(statements, key=lambda node: repr(shape(node))) if is_import else statements
    return found


@functools.cache
def definitions(source: str) -> list[str]:
    """The syntax trees of a file's top-level statements but its imports, as text."""
    # `pass` stands where a file has a docstring and nothing else.
    left_out = ast.Import | ast.ImportFrom | ast.Pass
    return [repr(shape(node)) for node in _parse(source).body if not isinstance(node, left_out)]


@functools.cache
def source_shape(source: str) -> str:
    """The syntax tree of a file with its imports as they are written, as text."""
    return repr(shape(_without_texts(ast.parse(source))))


def _parse(source: str) -> ast.Module:
    """The syntax tree of a file without docstrings and error texts. A file without statements has an empty one."""
    tree = _without_texts(ast.parse(source))
    tree.body = [] if all(isinstance(node, ast.Pass) for node in tree.body) else tree.body
    return tree


def _without_texts(tree: ast.Module) -> ast.Module:
    """The tree without docstrings and the texts of errors."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
        if isinstance(node, ast.Raise):
            node.exc = node.cause = None
    return tree


def shape(node: Any) -> Any:
    """A syntax tree as nested tuples, the same in every Python: their own printers differ from version to version."""
    if isinstance(node, ast.AST):
        fields = [(name, shape(value)) for name, value in ast.iter_fields(node)]
        return type(node).__name__, [(name, value) for name, value in fields if value not in (None, [])]
    return [shape(part) for part in node] if isinstance(node, list) else node
