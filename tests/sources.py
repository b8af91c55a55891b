"""The files of the package, each read and parsed once in a process, for tests that look at all of them."""

from __future__ import annotations

import ast
import gc
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1] / "nas_bo"


@cache
def trees() -> dict[Path, ast.Module]:
    """Their syntax trees, in the order of their paths."""
    gc.disable()
    try:
        found = {path: ast.parse(path.read_text()) for path in sorted(ROOT.rglob("*.py"))}
    finally:
        gc.enable()
    gc.freeze()  # millions of nodes that are there to the end: no collection looks through them again
    return found
