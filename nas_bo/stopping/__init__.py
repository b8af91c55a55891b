"""ROOM 11, stopping rules: when an evaluation ends early. Names are resolved when first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nas_bo.stopping.reservation import Reservation as Reservation
    from nas_bo.stopping.successive_halving import Stopping as Stopping
    from nas_bo.stopping.successive_halving import SuccessiveHalving as SuccessiveHalving

_HOME = {"Reservation": "reservation", "Stopping": "successive_halving", "SuccessiveHalving": "successive_halving"}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"nas_bo.stopping.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
