"""ROOM 5, strategies: history -> next architectures. Importing it loads no torch; names are resolved when used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nas_bo.strategies.bayes import Bayes
    from nas_bo.strategies.darts import Darts
    from nas_bo.strategies.gdas import GDAS
    from nas_bo.strategies.halving import Stopping, SuccessiveHalving
    from nas_bo.strategies.local_search import LocalSearch
    from nas_bo.strategies.nsga2 import NSGA2
    from nas_bo.strategies.proxyless import ProxylessNAS
    from nas_bo.strategies.random import Random
    from nas_bo.strategies.regularized_evolution import RegularizedEvolution
    from nas_bo.strategies.reinforce import Reinforce
    from nas_bo.strategies.reservation import Reservation
    from nas_bo.strategies.strategy import Strategy
    from nas_bo.strategies.successive import Successive

_HOMES = {
    "GDAS": "gdas",
    "Bayes": "bayes",
    "Darts": "darts",
    "LocalSearch": "local_search",
    "NSGA2": "nsga2",
    "ProxylessNAS": "proxyless",
    "Random": "random",
    "RegularizedEvolution": "regularized_evolution",
    "Reinforce": "reinforce",
    "Reservation": "reservation",
    "Stopping": "halving",
    "Strategy": "strategy",
    "Successive": "successive",
    "SuccessiveHalving": "halving",
}

__all__ = [
    "GDAS",
    "NSGA2",
    "Bayes",
    "Darts",
    "LocalSearch",
    "ProxylessNAS",
    "Random",
    "RegularizedEvolution",
    "Reinforce",
    "Reservation",
    "Stopping",
    "Strategy",
    "Successive",
    "SuccessiveHalving",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"nas_bo.strategies has no {name!r}; there are: {', '.join(__all__)}")
    return getattr(import_module(f"nas_bo.strategies.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
