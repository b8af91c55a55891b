"""ROOM 3, the supernet: one set of weights for every architecture of a space. Names are resolved when first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nas_bo.supernet.sampling import Balanced as Balanced
    from nas_bo.supernet.sampling import Fair as Fair
    from nas_bo.supernet.sampling import Sampling as Sampling
    from nas_bo.supernet.sampling import Sandwich as Sandwich
    from nas_bo.supernet.sampling import Uniform as Uniform
    from nas_bo.supernet.training import SupernetDiverged as SupernetDiverged
    from nas_bo.supernet.training import SupernetResult as SupernetResult
    from nas_bo.supernet.training import train_supernet as train_supernet
    from nas_bo.supernet.weights import Supernet as Supernet

_HOME = {
    "Supernet": "weights",
    **dict.fromkeys(("Balanced", "Fair", "Sampling", "Sandwich", "Uniform"), "sampling"),
    **dict.fromkeys(("SupernetDiverged", "SupernetResult", "train_supernet"), "training"),
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"nas_bo.supernet.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
