"""The import law: a room imports only rooms above it, doors import rooms, and nothing heavy is loaded before it is needed."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tests.conftest import QUICK
from tests.sources import ROOT, trees

ROOMS = ["space", "model", "search_spaces", "supernet", "export", "compress", "hardware", "surrogate", "objectives", "pretrained", "strategies", "stopping", "report", "execution"]  # fmt: skip
DOORS = ["optuna", "ax", "mlflow", "lm_eval"]
ABOVE = ["workflows", "testing", "cli"]  # what sees the doors; each sees those before it
PLACES = [*ROOMS, *DOORS, *ABOVE]
CORE = {p.stem for p in ROOT.glob("*.py")} - set(PLACES) - {"__init__", "__main__"}  # files of plain data and contracts
HEAVY = ("torch", "optuna", "ax", "botorch", "mlflow", "pandas", "matplotlib", "scipy")


@cache
def _imports(path: Path, everywhere: bool = True, shown: bool = False) -> frozenset[str]:
    """Names of imported modules; only those executed at import when not `everywhere`, none for types only with `shown`."""
    found: set[str] = set()
    tree = trees()[path]
    skip: set[ast.AST] = set()
    for node in ast.walk(tree) if shown or not everywhere else ():
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            skip |= set(ast.walk(node))
        if not everywhere and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            skip |= set(ast.walk(node))
    for node in ast.walk(tree):
        if node in skip and (shown or not everywhere):
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(found)


def _room(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if parts[0] == "nas_bo" and len(parts) > 1 else None


def _files() -> list[Path]:
    return [*trees()]


def _place(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def test_every_import_points_up():
    wrong = []
    for path in _files():
        place = _place(path)
        seen = {None, *CORE, *PLACES} if place.startswith("__") else {None, place, *_seen_from(place)}
        named = {module: _room(module) for module in _imports(path)}
        wrong += [f"{path} imports {m}" for m, room in named.items() if room in {*CORE, *PLACES} - seen]
    assert len(_files()) > 400 and not wrong, wrong


def _seen_from(place: str) -> set[str]:
    if place in CORE:
        return CORE | {"space"}  # of the language; see the next test
    if place in ROOMS:
        return CORE | set(ROOMS[: ROOMS.index(place)])
    if place in DOORS:
        return CORE | set(ROOMS)
    return CORE | set(ROOMS) | set(DOORS) | set(ABOVE[: ABOVE.index(place)])


def test_the_core_knows_the_language_by_its_types_only():
    for name in CORE:
        assert "space" not in {_room(m) for m in _imports(ROOT / f"{name}.py", everywhere=False)}, name


def test_each_host_is_imported_behind_its_own_door():
    wrong = [
        f"{path} imports {module}"
        for path in _files()
        for module in _imports(path)
        if (host := module.split(".")[0]) in DOORS and _place(path) not in (host, "cli" if host == "optuna" else host)
    ]
    assert not wrong, wrong


CIRCLES = {"model", "workflows"}  # still with one


@pytest.mark.parametrize("place", [place for place in PLACES if (ROOT / place).is_dir() and place not in CIRCLES])
def test_no_file_of_a_room_imports_one_that_needs_it(place):
    """Imports within functions count as well: they only hide a circle."""
    files = {".".join(("nas_bo", *p.relative_to(ROOT).with_suffix("").parts)): p for p in (ROOT / place).rglob("*.py")}
    names = {module: {m for m in _imports(path, shown=True) if m in files} for module, path in files.items()}
    sorter = TopologicalSorter({module: found - {module} for module, found in names.items()})
    sorter.prepare()  # raises CycleError, which names the circle


def test_only_one_shot_search_lets_a_strategy_see_the_model():
    for path in (ROOT / "strategies").glob("*.py"):
        assert not {"model", "supernet"} & {_room(m) for m in _imports(path)}, path.name
    for path in (ROOT / "strategies" / "one_shot").glob("*.py"):
        assert "model" not in {_room(m) for m in _imports(path, everywhere=False)}, f"{path.name}: not when imported"


@pytest.mark.parametrize("module", ["nas_bo", "nas_bo.space", "nas_bo.search_spaces", "nas_bo.model", "nas_bo.objectives",
                                    "nas_bo.strategies", "nas_bo.problem", "nas_bo.cli.app", "nas_bo.stopping", "nas_bo.supernet"])  # fmt: skip
def test_nothing_heavy_is_loaded(module):
    code = f"import {module}, sys; print([m for m in {HEAVY!r} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert out.stdout.strip() == "[]", out.stdout + out.stderr


def test_a_search_that_trains_nothing_loads_no_torch(tmp_path):
    """Two seconds and a half of every process, and those of its workers."""
    code = (
        "import sys; from nas_bo import AskTell, search; from tests.problems import Toy, cost, loss\n"
        f"search(Toy, [loss, cost], trials=2, retrain=0, storage={str(tmp_path / 's.db')!r})\n"
        "print([m for m in ('torch', 'mlflow', 'matplotlib', 'pandas') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT.parent)
    assert out.stdout.strip() == "[]", out.stdout + out.stderr


def test_import_is_fast():
    """It loads Python's own modules and a few of ours: counted, since what a second is worth depends on the machine."""
    code = (
        "import sys; there = set(sys.modules); import nas_bo; names = set(sys.modules) - there\n"
        "print(*sorted({n.partition('.')[0] for n in names} - sys.stdlib_module_names), sum(n.startswith('nas_bo') for n in names))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded, ours = out.stdout.rsplit(maxsplit=1)
    assert loaded == "lazy_loader nas_bo" and int(ours) <= 12, out.stdout  # the first is one small file


def test_public_names_resolve():
    import nas_bo

    for name in nas_bo.__all__:
        assert getattr(nas_bo, name) is not None
    assert callable(nas_bo.search)
    with pytest.raises(AttributeError):
        _ = nas_bo.nonsense


def test_quick_tests_are_there_and_look_at_every_room():
    """Those of `pytest -m quick`."""
    tests = ROOT.parent / "tests"
    assert not [name for name in QUICK if not (tests / name).exists()]
    places = {name.partition("/")[0] for name in QUICK}
    there = {path.name for path in tests.iterdir() if path.is_dir() and list(path.glob("test_*.py"))}
    assert not there - places
