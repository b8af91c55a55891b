"""ROOM 4, architecture -> number. The contract `Objective` is in `nas_bo.problem`; public names load lazily."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nas_bo.objectives.cost import Flops, KVCacheBytes, Parameters
    from nas_bo.objectives.latency import Latency
    from nas_bo.objectives.low_fidelity import ValidationLoss
    from nas_bo.objectives.weighted import Weighted

_HOME = {
    "Flops": "cost",
    "KVCacheBytes": "cost",
    "Latency": "latency",
    "Parameters": "cost",
    "ValidationLoss": "low_fidelity",
    "Weighted": "weighted",
}

__all__ = [
    "Flops",
    "KVCacheBytes",
    "Latency",
    "Parameters",
    "ValidationLoss",
    "Weighted",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        from importlib import import_module

        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
