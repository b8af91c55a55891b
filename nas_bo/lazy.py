"""Public names that are resolved when first used: each package lists them once, in the stub next to its ``__init__``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lazy_loader

from nas_bo import moved


def attach(package: str, file: str) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """``__getattr__``, ``__dir__`` and ``__all__`` of a package: its names, and those that it had in version 0.1."""
    find, listed, names = lazy_loader.attach_stub(package, file)

    def get(name: str) -> Any:
        return find(name) if name in names else moved.value(package, name)

    return get, listed, names
