"""The source of some functions and classes in one text that needs none of the packages they come from.

What is collected is followed by name: whatever a piece uses of the packages that are taken along is collected as well, before it;
imports of all others stay imports. Annotations are kept as text and followed nowhere.
"""

from __future__ import annotations

import ast
import copy
import inspect
from collections.abc import Collection, Iterator, Mapping
from functools import cache
from importlib import import_module
from importlib.util import resolve_name

from nas_bo.errors import ExportError

DROPPED = ("remembered",)  # decorators that only make things faster


class Bundle:
    """Pieces of source, collected by `add` and `method`.

    Args:
        inside: names of the packages that are taken along.
        given: names that the text around the pieces defines, and that are not looked for.
    """

    def __init__(self, inside: Collection[str], given: Collection[str]) -> None:
        self._inside, self._given = frozenset(inside), frozenset(given)
        self._names: dict[tuple[str, str], str] = {}  # (module, name) -> the name in the text
        self._imports: dict[str, None] = {}
        self._pieces: list[str] = []

    def add(self, module: str, name: str) -> str:
        """Collect the source of `name` in a module, and return the name that it has in the text (raises ExportError where it has no source)."""
        found = _statements(module).get(name)
        if found is None:
            raise ExportError(
                f"{name} of the module {module} is made while it runs, so that its source cannot be taken along; define it with a "
                "class or def statement at the top of the module"
            )
        if isinstance(found, ast.ImportFrom):
            origin = _from(module, found)
            if self._is_inside(origin):
                return self.add(origin, next(one.name for one in found.names if (one.asname or one.name) == name))
        if isinstance(found, (ast.ImportFrom, ast.Import)):
            alias = next(one for one in found.names if _bound(one) == name)
            if isinstance(found, ast.Import) and self._is_inside(alias.name):
                raise ExportError(
                    f"the module {module} imports {alias.name} as a whole; import the names that it uses, from {alias.name} import ..."
                )
            alone = copy.copy(found)
            alone.names = [alias]
            self._imports[ast.unparse(alone)] = None
            return name
        key = module, name
        if key not in self._names:
            self._names[key] = self._free(module, name)
            self._pieces.append(self._text(module, found, self._names[key]))
        return self._names[key]

    def method(self, module: str, owner: str, name: str, called: str | None = None) -> str:
        """The text of a method, all that it uses collected; `called` is its name there, else its own."""
        holder = _statements(module).get(owner)
        body = holder.body if isinstance(holder, ast.ClassDef) else []
        for one in body:
            if isinstance(one, ast.FunctionDef) and one.name == name:
                return self._text(module, one, called or name)
        raise ExportError(
            f"{owner} of the module {module} has no method {name} of its own, so that its source cannot be taken along; write it there"
        )

    def text(self) -> str:
        """The imports, then the pieces in an order in which each is there before it is used."""
        return "\n".join(sorted(self._imports)) + "\n\n\n" + "\n\n\n".join(self._pieces) + "\n"

    def _text(self, module: str, statement: ast.stmt, name: str) -> str:
        made = _Inlined(self, module).visit(copy.deepcopy(statement))
        if isinstance(made, (ast.FunctionDef, ast.ClassDef)):
            made.decorator_list = [one for one in made.decorator_list if ast.unparse(one) not in DROPPED]
        new = {}
        there = _statements(module)
        for used in _used(made):
            if used in there and used not in self._given:
                found = self.add(module, used)
                if found != used:
                    new[used] = found
        made = _Renamed(new).visit(made)
        if isinstance(made, (ast.FunctionDef, ast.ClassDef)):
            made.name = name
        return ast.unparse(ast.fix_missing_locations(made))

    def _is_inside(self, module: str) -> bool:
        return module.partition(".")[0] in self._inside

    def _free(self, module: str, name: str) -> str:
        taken = {*self._names.values(), *self._given}
        return name if name not in taken else f"{name}_of_{module.rpartition('.')[2]}"


@cache
def _statements(module: str) -> Mapping[str, ast.stmt]:
    """What each name at the top of a module is bound by (raises ExportError where there is no source)."""
    try:
        tree = ast.parse(inspect.getsource(import_module(module)))
    except (OSError, TypeError, ImportError) as error:
        raise ExportError(
            f"the source code of the module {module} cannot be found ({error}), so that it cannot be copied into the export. Code that was typed into an "
            "interpreter or a notebook has none: put the block into a file, and import it from there"
        ) from None
    return {name: statement for statement in tree.body for name in _binds(statement)}


def _binds(statement: ast.stmt) -> Iterator[str]:
    if isinstance(statement, (ast.FunctionDef, ast.ClassDef)):
        yield statement.name
    elif isinstance(statement, (ast.ImportFrom, ast.Import)):
        yield from map(_bound, statement.names)
    elif isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
        yield statement.target.id
    elif isinstance(statement, ast.Assign):
        yield from (one.id for target in statement.targets for one in ast.walk(target) if isinstance(one, ast.Name))


def _bound(alias: ast.alias) -> str:
    return alias.asname or alias.name.partition(".")[0]


def _from(module: str, statement: ast.ImportFrom) -> str:
    if not statement.level:
        return statement.module or ""
    return resolve_name("." * statement.level + (statement.module or ""), module.rpartition(".")[0])


def _used(piece: ast.AST) -> list[str]:
    found = _Used()
    found.visit(piece)
    return sorted(found.names)


class _Used(ast.NodeVisitor):
    """Names that are read, those of annotations aside."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def visit_Name(self, node: ast.Name) -> None:
        self.names.add(node.id)

    def visit_arg(self, node: ast.arg) -> None:
        pass

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        for one in (*node.decorator_list, node.args, *node.body):
            self.visit(one)


class _Renamed(ast.NodeTransformer):
    def __init__(self, new: Mapping[str, str]) -> None:
        self._new = new

    def visit_Name(self, node: ast.Name) -> ast.Name:
        node.id = self._new.get(node.id, node.id)
        return node


class _Inlined(ast.NodeTransformer):
    """Imports within functions of what is taken along become nothing, and names what they were collected under."""

    def __init__(self, bundle: Bundle, module: str) -> None:
        self._bundle, self._module = bundle, module

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        new: dict[str, str] = {}
        kept: list[ast.stmt] = []
        for one in node.body:
            origin = _from(self._module, one) if isinstance(one, ast.ImportFrom) else ""
            if isinstance(one, ast.ImportFrom) and self._bundle._is_inside(origin):
                for alias in one.names:
                    new[alias.asname or alias.name] = self._bundle.add(origin, alias.name)
            else:
                kept.append(one)
        node.body = kept or [ast.Pass()]
        self.generic_visit(node)
        return _Renamed({old: name for old, name in new.items() if old != name}).visit(node)  # type: ignore[no-any-return]
