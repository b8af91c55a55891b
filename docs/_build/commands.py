"""MkDocs hook: after the line `<!-- every command -->` follows each command of `nas-bo` with its options, read from the source; nothing is
imported."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
CLI = "nas_bo.cli.commands"
HERE = "<!-- every command -->"


class Module:
    """A module of the command line: its functions, and where its names are from."""

    def __init__(self, name: str) -> None:
        self.tree = ast.parse((ROOT / f"{name.replace('.', '/')}.py").read_text())
        self.functions = {node.name: node for node in self.tree.body if isinstance(node, ast.FunctionDef)}
        self.assigned = {
            target.id: node.value
            for node in self.tree.body
            if isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value is not None
            for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
            if isinstance(target, ast.Name)
        }
        self.imported = {
            alias.asname or alias.name: (node.module, alias.name)
            for node in ast.walk(self.tree)
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("nas_bo")
            for alias in node.names
        }

    def annotation(self, node: ast.expr | None) -> ast.expr | None:
        """What an annotation that is only a name stands for."""
        if isinstance(node, ast.Name) and node.id in self.assigned:
            return self.assigned[node.id]
        if isinstance(node, ast.Name) and node.id in self.imported:
            home, name = self.imported[node.id]
            return Module(home).annotation(ast.Name(name))
        return node


def _registers(node: ast.AST) -> bool:
    """Whether it is a call ``something.command(...)``."""
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "command"


def commands() -> Iterator[tuple[str, Module, ast.FunctionDef]]:
    """(the command as it is typed, its module, its function), in the order of the table; groups of commands last."""
    table = Module(CLI)
    for name, home in ast.literal_eval(table.assigned["COMMANDS"]).items():
        module = Module(home)
        yield f"nas-bo {name}", module, module.functions[name]
    for group, home in ast.literal_eval(table.assigned["GROUPS"]).items():
        module = Module(home)
        for node in module.functions.values():
            if any(map(_registers, node.decorator_list)):
                yield f"nas-bo {group} {node.name.strip('_').replace('_', '-')}", module, node


def options(module: Module, function: ast.FunctionDef) -> Iterator[tuple[str, str, str]]:
    """(option as it is typed, default, help) of each parameter."""
    arguments = function.args
    defaults: list[ast.expr | None] = [None] * (len(arguments.args) - len(arguments.defaults)) + list(arguments.defaults)
    for parameter, default in zip(arguments.args, defaults, strict=True):
        made = module.annotation(parameter.annotation)
        calls = [n for n in ast.walk(made) if isinstance(n, ast.Call)] if made is not None else []
        told = {k.arg: k.value for call in calls for k in call.keywords}
        kind = calls[0].func.attr if calls and isinstance(calls[0].func, ast.Attribute) else ""
        own = [a.value for call in calls for a in call.args if isinstance(a, ast.Constant) and str(a.value).startswith("-")]
        typed = own[0] if own else "--" + parameter.arg.replace("_", "-")
        value = ast.unparse(default) if default is not None else ""
        if value.startswith("Path("):
            value = value[5:-1]
        value = {"None": "", "False": "", "True": "yes"}.get(value, value.strip("'\""))
        yield (parameter.arg.upper() if kind == "Argument" else str(typed)), value, _text(told.get("help", ast.Constant("")))


def _text(node: ast.expr) -> str:
    """A help text; names in an f-string stand as they are."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(str(v.value) if isinstance(v, ast.Constant) else "..." for v in node.values)
    return ast.unparse(node)


def rendered() -> str:
    """The section of every command."""
    parts = []
    for typed, module, function in commands():
        parts.append(f"## {typed}\n\n{ast.get_docstring(function) or ''}\n")
        lines = [
            f"| `{name}`{{ .option }} | {_cell(text)}{f' Default: `{value}`.' if value else ''} |"
            for name, value, text in options(module, function)
        ]
        if lines:
            parts.append("\n".join(["| option | |", "|---|---|", *lines]) + "\n")
    return "\n".join(parts)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*").replace("_", "\\_")


def on_page_markdown(markdown: str, **_: Any) -> str:
    return markdown.replace(HERE, rendered()) if HERE in markdown else markdown
