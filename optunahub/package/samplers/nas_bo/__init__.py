"""nas_bo's sampler and strategies for OptunaHub; everything is in the package `nas_bo`."""

from nas_bo.optuna import Sampler, architecture, distributions, suggest
from nas_bo.strategies import NSGA2, Bayes, LocalSearch, Random, RegularizedEvolution, Reinforce, Successive

__all__ = [
    "NSGA2",
    "Bayes",
    "LocalSearch",
    "Random",
    "RegularizedEvolution",
    "Reinforce",
    "Sampler",
    "Successive",
    "architecture",
    "distributions",
    "suggest",
]
