"""Names of packages that load lazily: one list of each, in its stub."""

from __future__ import annotations

import ast
from importlib import import_module
from pathlib import Path

import pytest

import nas_bo

ROOT = Path(nas_bo.__file__).parent
STUBS = sorted(ROOT.rglob("__init__.pyi"))


def package_of(stub: Path) -> str:
    return ".".join(["nas_bo", *stub.parent.relative_to(ROOT).parts])


@pytest.mark.parametrize("stub", STUBS, ids=package_of)
def test_every_name_of_a_stub_is_there_and_nothing_else(stub):
    package = import_module(package_of(stub))
    for node in ast.walk(ast.parse(stub.read_text())):
        if isinstance(node, ast.ImportFrom):
            home = import_module(f"{package.__name__}.{node.module}")
            for alias in node.names:
                assert alias.asname == alias.name and getattr(package, alias.name) is getattr(home, alias.name)
                assert alias.name in package.__all__ and alias.name in dir(package)
    with pytest.raises(AttributeError, match=f"module '{package.__name__}' has no attribute 'nonsense'"):
        _ = package.nonsense


def test_a_word_of_a_block_that_the_stub_lacks_is_found(monkeypatch):
    """Who adds a block of ours lists it once, in the table of blocks."""
    from nas_bo import model

    names = [name for name in model.__all__ if name != "conv"]
    monkeypatch.setattr(model, "__all__", names)
    monkeypatch.delitem(vars(model), "conv", raising=False)
    assert model.conv is import_module("nas_bo.model.vocabulary").conv


@pytest.mark.parametrize(
    "file", [*STUBS, *sorted(ROOT.rglob("__init__.py"))], ids=lambda path: str(path.relative_to(ROOT))
)
def test_no_module_hides_a_public_name(file):
    """Importing a submodule sets its name in the package: one that is called as a public name of another module would take its place."""
    modules = {path.stem for path in file.parent.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module != package_of(file):  # else it is the module that is meant
            home = (node.module or "").rpartition(".")[2]
            assert not [alias.name for alias in node.names if alias.name in modules - {home}]
