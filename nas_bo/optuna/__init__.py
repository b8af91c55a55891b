"""DOOR to Optuna (>= 5.0): spaces as define-by-run suggestions, strategies as samplers, outcomes as constraints.

The only room that imports optuna. Choices become categoricals, integers and reals their own distributions; every
parameter is named by its flat name (``layers.3.mixer``) and holds the plain value.
"""

from nas_bo.optuna.bridge import architecture, distributions, objective, suggest
from nas_bo.optuna.merging import Merged, merge, origin
from nas_bo.optuna.reading import columns, from_frozen, history
from nas_bo.optuna.sampler import Sampler
from nas_bo.optuna.staged import StagedTrial, staged
from nas_bo.optuna.writing import EvaluationFailed, conclude, record

__all__ = [
    "EvaluationFailed", "Merged", "Sampler", "StagedTrial", "architecture", "columns", "conclude", "distributions",
    "from_frozen", "history", "merge", "objective", "origin", "record", "staged", "suggest",
]  # fmt: skip
