"""Architectures that were not evaluated: architectures as numbers, and Gaussian processes on them. Names are resolved when first
used; numpy and scipy, but for the models that say otherwise.

Strategies ask it where to look next; predicted objectives and learned costs ask it for a number with its spread.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nas_bo.surrogate.boosting import GradientBoosting
    from nas_bo.surrogate.ensemble import MLPEnsemble
    from nas_bo.surrogate.gaussian import GP
    from nas_bo.surrogate.ridge import Ridge

_HOME = {"GP": "gaussian", "GradientBoosting": "boosting", "MLPEnsemble": "ensemble", "Ridge": "ridge"}

__all__ = [
    "GP",
    "GradientBoosting",
    "MLPEnsemble",
    "Ridge",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
