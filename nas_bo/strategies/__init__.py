"""ROOM 10, strategies: history -> next architectures. Importing it loads no torch; names are resolved when used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from nas_bo import moved

if TYPE_CHECKING:
    from nas_bo.strategies.bayes import Bayes
    from nas_bo.strategies.local_search import LocalSearch
    from nas_bo.strategies.nsga2 import NSGA2
    from nas_bo.strategies.one_shot.darts import Darts
    from nas_bo.strategies.one_shot.gdas import GDAS
    from nas_bo.strategies.one_shot.proxyless import ProxylessNAS
    from nas_bo.strategies.random import Random
    from nas_bo.strategies.regularized_evolution import RegularizedEvolution
    from nas_bo.strategies.reinforce import Reinforce
    from nas_bo.strategies.strategy import Strategy
    from nas_bo.strategies.successive import Successive

_HOMES = {
    "GDAS": "one_shot.gdas",
    "Bayes": "bayes",
    "Darts": "one_shot.darts",
    "LocalSearch": "local_search",
    "NSGA2": "nsga2",
    "ProxylessNAS": "one_shot.proxyless",
    "Random": "random",
    "RegularizedEvolution": "regularized_evolution",
    "Reinforce": "reinforce",
    "Strategy": "strategy",
    "Successive": "successive",
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
    "Strategy",
    "Successive",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        return moved.value(__name__, name)
    return getattr(import_module(f"nas_bo.strategies.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
