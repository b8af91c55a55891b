"""How much of the code is not typed, and how often it looks for attributes: counts that may fall and not grow.

`Any` says that nobody knows what a value is. It belongs where a package of others has no types, where a user's own class or
function is looked at, and to values that an architecture has by name. Whoever needs one more somewhere takes one away.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tests.sources import ROOT, trees

ANY = {  # room -> the most; "" are the files next to the rooms
    "": 95, "ax": 25, "cli": 43, "compress": 22, "export": 50, "hardware": 43, "mlflow": 21, "model": 135, "objectives": 40,
    "optuna": 47, "pretrained": 10, "report": 34, "search_spaces": 3, "space": 31, "strategies": 8, "supernet": 21,
    "testing": 5, "workflows": 77,
}  # fmt: skip
HASATTR, GETATTR = 1, 34  # of a module of torch that lists nothing; fields of dataclasses, and what a text names
MOST_ARGUMENTS = 8
MANY = {  # that have more, and why
    "mlflow/tracker.py: __init__",  # keyword arguments that users write, of which no two belong together
    "model/run.py: __init__",  # called in one place, by `Training`, which has the settings value
    "model/vocabulary.py: attention",  # a word of the language: its arguments are the fields of the block
    "workflows/train.py: train",  # keyword arguments that users write; those of the training are one value, `settings`
}


def _nodes(word: str = "") -> Iterator[tuple[Path, Iterator[ast.AST]]]:
    """The nodes of each file in which the word is."""
    for path, tree in trees().items():
        if not word or word in path.read_text():
            yield path.relative_to(ROOT), ast.walk(tree)


def _words(nodes: Iterator[ast.AST]) -> int:
    """`Any` in annotations, aliases and imports, also inside texts that are annotations."""
    count = 0
    for node in nodes:
        if isinstance(node, ast.Name):
            count += node.id == "Any"
        elif isinstance(node, ast.ImportFrom) and node.module == "typing":
            count += sum(alias.name == "Any" for alias in node.names)
    return count


def test_any_does_not_grow():
    found: Counter[str] = Counter()
    for path, nodes in _nodes("Any"):
        found[path.parts[0] if len(path.parts) > 1 else ""] += _words(nodes)
    more = {room: n for room, n in found.items() if n > ANY.get(room, 0)}
    assert not more, f"more of Any than before (room: now), where the most is {ANY}: {more}"


def test_attributes_are_rarely_looked_for():
    """A capability is a small protocol (`nas_bo.objective`), and `isinstance` asks for it."""
    called = Counter(
        node.func.id
        for _, nodes in _nodes("attr(")
        for node in nodes
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    )
    assert called["hasattr"] <= HASATTR
    assert called["getattr"] <= GETATTR


def test_functions_have_few_arguments():
    """What belongs together is one value; options of commands are what typer reads."""
    many = []
    for path, nodes in _nodes():
        for node in nodes:
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                given = node.args
                count = sum(a.arg not in ("self", "cls") for a in (*given.posonlyargs, *given.args, *given.kwonlyargs))
                if count > MOST_ARGUMENTS and path.parts[0] != "cli":
                    many.append(f"{path.as_posix()}: {node.name}")
    assert set(many) <= MANY, set(many) - MANY
