"""The import law: rooms import to their left, doors import rooms, and nothing heavy is loaded before it is needed."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "nas_bo"
CORE = {"architecture", "once", "problem", "trial", "errors", "chance", "knee", "final", "spelling"}
ROOMS = ["space", "surrogate", "model", "hardware", "objectives", "strategies", "report"]  # left to right
DOORS = {"optuna", "ax", "mlflow", "lm_eval"}
TOP = {
    "again",
    "ask_tell",
    "loop",
    "result",
    "baseline",
    "checked",
    "comparison",
    "testing",
    "chosen",
    "heard",
    "kept",
    "loading",
    "pick",
    "preflight",
    "profiling",
    "provenance",
    "recipe",
    "signals",
    "validation",
    "workers",
    "cli",
    "command",
    "__main__",
    "__init__",
}  # these may see everything
HEAVY = ("torch", "optuna", "ax", "botorch", "mlflow", "pandas", "matplotlib", "scipy")


def _imports(path: Path, everywhere: bool = True) -> set[str]:
    """Names of imported modules; only those executed at import when not `everywhere`."""
    found: set[str] = set()
    tree = ast.parse(path.read_text())
    skip: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            skip |= set(ast.walk(node))
        if not everywhere and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            skip |= set(ast.walk(node))
    for node in ast.walk(tree):
        if node in skip and not everywhere:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def _room(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if parts[0] == "nas_bo" and len(parts) > 1 else None


def _files() -> list[Path]:
    return sorted(ROOT.rglob("*.py"))


@pytest.mark.parametrize("path", _files(), ids=lambda p: str(p.relative_to(ROOT)))
def test_every_import_points_left(path):
    place = path.relative_to(ROOT).parts[0].removesuffix(".py")
    known = CORE | set(ROOMS) | DOORS | TOP
    for module in _imports(path):
        target = _room(module)
        if target is None or target == place or target not in known:
            continue
        if place in CORE:
            assert target in CORE | {"space"}, f"{path} imports {module}"  # `space` for types and lazily only
        elif place in ROOMS:
            left = set(ROOMS[: ROOMS.index(place)])
            assert target in CORE | left, f"{path} imports {module}"
        elif place in DOORS:  # and what they ask before the first trial
            assert target in CORE | set(ROOMS) | {"preflight"}, f"{path} imports {module}"


@pytest.mark.parametrize("path", _files(), ids=lambda p: str(p.relative_to(ROOT)))
def test_each_host_is_imported_behind_its_own_door(path):
    place = path.relative_to(ROOT).parts[0].removesuffix(".py")
    for module in _imports(path):
        host = module.split(".")[0]
        if host in DOORS and (host, place) != ("optuna", "command"):
            assert host == place, f"{path} imports {module}"


BY_GRADIENTS = {"alternation.py", "darts.py", "gdas.py", "gradient.py", "proxyless.py", "store.py"}


def test_only_search_by_gradients_lets_a_strategy_see_the_model():
    for path in (ROOT / "strategies").glob("*.py"):
        assert path.name in BY_GRADIENTS or "model" not in {_room(m) for m in _imports(path)}, path.name
        assert "model" not in {_room(m) for m in _imports(path, everywhere=False)}, f"{path.name}: not when imported"


@pytest.mark.parametrize("module", ["nas_bo", "nas_bo.space", "nas_bo.search_spaces", "nas_bo.model", "nas_bo.objectives",
                                    "nas_bo.strategies", "nas_bo.problem", "nas_bo.cli"])  # fmt: skip
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
    """Below 0.3 s of processor time, interpreter included; the best of three, since the machine may be busy."""
    import resource

    spent = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-c", "import nas_bo"], check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(spent) < 0.3


def test_public_names_resolve():
    import nas_bo

    for name in nas_bo.__all__:
        assert getattr(nas_bo, name) is not None
    assert callable(nas_bo.search)
    with pytest.raises(AttributeError):
        _ = nas_bo.nonsense
