"""ROOM 9, architecture -> number. The contract `Objective` is in `nas_bo.problem`; public names load lazily."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nas_bo.objectives.cost import ActiveParameters, Flops, KVCacheBytes, Parameters
    from nas_bo.objectives.curves import Extrapolation, extrapolate
    from nas_bo.objectives.energy import Energy
    from nas_bo.objectives.growth import Growth
    from nas_bo.objectives.latency import Latency
    from nas_bo.objectives.memory import Fits, Memory, fitting
    from nas_bo.objectives.noise import SeedNoise, noise_of, seed_noise
    from nas_bo.objectives.predicted import Predicted
    from nas_bo.objectives.predicted_inputs import Rung
    from nas_bo.objectives.probe import LearningRateProbe
    from nas_bo.objectives.proxy_task import (
        AssociativeRecall,
        InductionHeads,
        MarkovSource,
        Memorisation,
        ProxyTask,
        SelectiveCopying,
        TaskSuite,
    )
    from nas_bo.objectives.shared_weights import SharedWeightLoss
    from nas_bo.objectives.throughput import Throughput
    from nas_bo.objectives.validation_loss import ValidationLoss
    from nas_bo.objectives.weighted import Weighted
    from nas_bo.objectives.zero_cost import (
        DecoderParameters,
        GradientNorm,
        Grasp,
        InitialLoss,
        JacobianCovariance,
        Naswot,
        Snip,
        Synflow,
        ZenScore,
        quantile_limit,
    )

_HOME = {
    "ActiveParameters": "cost",
    "AssociativeRecall": "proxy_task",
    "DecoderParameters": "zero_cost",
    "Energy": "energy",
    "Extrapolation": "curves",
    "Fits": "memory",
    "Flops": "cost",
    "GradientNorm": "zero_cost",
    "Grasp": "zero_cost",
    "Growth": "growth",
    "InductionHeads": "proxy_task",
    "InitialLoss": "zero_cost",
    "JacobianCovariance": "zero_cost",
    "KVCacheBytes": "cost",
    "Latency": "latency",
    "LearningRateProbe": "probe",
    "MarkovSource": "proxy_task",
    "Memorisation": "proxy_task",
    "Memory": "memory",
    "Naswot": "zero_cost",
    "Parameters": "cost",
    "Predicted": "predicted",
    "ProxyTask": "proxy_task",
    "Rung": "predicted_inputs",
    "SeedNoise": "noise",
    "SelectiveCopying": "proxy_task",
    "SharedWeightLoss": "shared_weights",
    "Snip": "zero_cost",
    "Synflow": "zero_cost",
    "TaskSuite": "proxy_task",
    "Throughput": "throughput",
    "ValidationLoss": "validation_loss",
    "Weighted": "weighted",
    "ZenScore": "zero_cost",
    "extrapolate": "curves",
    "fitting": "memory",
    "noise_of": "noise",
    "quantile_limit": "zero_cost",
    "seed_noise": "noise",
}

__all__ = [
    "ActiveParameters",
    "AssociativeRecall",
    "DecoderParameters",
    "Energy",
    "Extrapolation",
    "Fits",
    "Flops",
    "GradientNorm",
    "Grasp",
    "Growth",
    "InductionHeads",
    "InitialLoss",
    "JacobianCovariance",
    "KVCacheBytes",
    "Latency",
    "LearningRateProbe",
    "MarkovSource",
    "Memorisation",
    "Memory",
    "Naswot",
    "Parameters",
    "Predicted",
    "ProxyTask",
    "Rung",
    "SeedNoise",
    "SelectiveCopying",
    "SharedWeightLoss",
    "Snip",
    "Synflow",
    "TaskSuite",
    "Throughput",
    "ValidationLoss",
    "Weighted",
    "ZenScore",
    "extrapolate",
    "fitting",
    "noise_of",
    "quantile_limit",
    "seed_noise",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        from importlib import import_module

        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
