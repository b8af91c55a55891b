"""Scores of an untrained network from one mini-batch: one published method per file, each an objective.

They cost a forward and a backward pass per seed, and none is to be believed without a check on the space at hand: many
only repeat the size of the network, and the sign of some turns with the training budget. Names load lazily.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nas_bo.objectives.zero_cost.decoder_parameters import DecoderParameters as DecoderParameters
    from nas_bo.objectives.zero_cost.gradient_norm import GradientNorm as GradientNorm
    from nas_bo.objectives.zero_cost.grasp import Grasp as Grasp
    from nas_bo.objectives.zero_cost.initial_loss import InitialLoss as InitialLoss
    from nas_bo.objectives.zero_cost.jacobian_covariance import JacobianCovariance as JacobianCovariance
    from nas_bo.objectives.zero_cost.naswot import Naswot as Naswot
    from nas_bo.objectives.zero_cost.prefilter import quantile_limit as quantile_limit
    from nas_bo.objectives.zero_cost.score import ZeroCostScore as ZeroCostScore
    from nas_bo.objectives.zero_cost.snip import Snip as Snip
    from nas_bo.objectives.zero_cost.synflow import Synflow as Synflow
    from nas_bo.objectives.zero_cost.zen_score import ZenScore as ZenScore

_HOME = {
    "DecoderParameters": "decoder_parameters",
    "GradientNorm": "gradient_norm",
    "Grasp": "grasp",
    "InitialLoss": "initial_loss",
    "JacobianCovariance": "jacobian_covariance",
    "Naswot": "naswot",
    "Snip": "snip",
    "Synflow": "synflow",
    "ZenScore": "zen_score",
    "ZeroCostScore": "score",
    "quantile_limit": "prefilter",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        from importlib import import_module

        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
