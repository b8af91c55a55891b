"""What a kind of block is stands in its own files: nobody else asks which kind it is."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from nas_bo.model.blocks.table import OURS, known
from tests.sources import ROOT, trees

SPECS = {block.Spec.__name__ for block in known().values()}
OWN = [ROOT / "model" / "blocks", ROOT / "model" / "layers"]


def _asks(tree: ast.AST) -> list[str]:
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "isinstance":
            names = {one.id for one in ast.walk(node.args[1]) if isinstance(one, ast.Name)}
            names |= {one.attr for one in ast.walk(node.args[1]) if isinstance(one, ast.Attribute)}
            if names & SPECS:
                found.append(ast.unparse(node))
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            values = {one.value for side in sides for one in ast.walk(side) if isinstance(one, ast.Constant)}
            kinds = any(
                isinstance(one, ast.Attribute) and one.attr == "kind" for side in sides for one in ast.walk(side)
            )
            if kinds and values & {*OURS}:
                found.append(ast.unparse(node))
    return found


def _files() -> list[Path]:
    return [path for path in trees() if not any(own in path.parents for own in OWN)]


def test_nobody_asks_which_kind_a_block_is():
    texts = {path: path.read_text() for path in _files()}
    named = {path: text for path, text in texts.items() if any(word in text for word in (*SPECS, "kind"))}
    asking = {str(path): asked for path, text in named.items() if (asked := _asks(trees()[path]))}
    assert len(texts) > 400 and len(named) > 50 and not asking, asking  # what asks names a kind or a specification


def test_the_question_would_be_found():
    assert _asks(ast.parse("isinstance(one, (ConvSpec, int))")) and _asks(ast.parse("layer.mixer.kind == 'conv'"))
    assert _asks(ast.parse("x.kind in ('attention', 'conv')"))


@pytest.mark.parametrize("kind", OURS)
def test_each_kind_has_a_file_for_its_facts(kind):
    source = (ROOT / "model" / "blocks" / f"{kind}.py").read_text()
    assert "BLOCK = " in source and not [
        node
        for node in ast.parse(source).body
        if isinstance(node, (ast.Import, ast.ImportFrom)) and "torch" in ast.unparse(node)
    ]
