"""Ax's default generation strategy, with the reference point as objective thresholds and limits as its constraints.

Small spaces are given flat: every parameter ordered where it is, and always active. Deep conditional ones would have
two hundred parameters then, and are given as the tree that `nas_bo.ax` makes of them.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from typing import Any

from benchmarks.search_efficiency.arms.session import Arm
from benchmarks.search_efficiency.problems import Case
from nas_bo.architecture import Architecture
from nas_bo.space import Space
from nas_bo.space.domain import Integer, Real

Told = dict[str, float]


class AxClient:
    def __init__(self, case: Case, seed: int) -> None:
        import torch
        from ax.api.client import Client
        from ax.utils.common.logger import set_ax_logger_levels

        from nas_bo import ax as nas_ax

        torch.set_num_threads(1)
        set_ax_logger_levels(logging.ERROR)
        warnings.simplefilter("ignore")
        self.case, self.seed, self.index = case, seed, -1
        self.client = Client(random_seed=seed)
        parameters = flat_parameters(case.space) if case.flat else nas_ax.parameters(case.space)
        self.client.configure_experiment(parameters=parameters)
        bounds = dict(zip(case.objectives, case.point, strict=True)) | dict(case.limits)
        self.client.configure_optimization(
            objective=", ".join(f"-{name}" for name in case.objectives),
            outcome_constraints=[f"{name} <= {bound}" for name, bound in bounds.items()],
        )

    def ask(self) -> Architecture:
        from nas_bo import ax as nas_ax

        [(self.index, params)] = self.client.get_next_trials(max_trials=1).items()
        if self.case.flat:
            return self.case.space.decide(lambda path, _domain: params[path])
        return nas_ax.architecture(self.case.space, params)

    def evaluate(self, arch: Architecture) -> Told:
        return {name: self.case.told(arch, self.seed)[name] for name in (*self.case.objectives, *self._beside())}

    def tell(self, arch: Architecture, outcome: Told) -> None:
        self.client.complete_trial(self.index, raw_data=outcome)

    def load(self, archs: Sequence[Architecture]) -> None:
        from nas_bo import ax as nas_ax

        for arch in archs:
            params = full(self.case.space, arch) if self.case.flat else nas_ax.params(self.case.space, arch)
            self.tell_at(self.client.attach_trial(parameters=params), arch)

    def tell_at(self, index: int, arch: Architecture) -> None:
        self.index = index
        self.tell(arch, self.evaluate(arch))

    def _beside(self) -> list[str]:
        return [name for name in self.case.limits if name not in self.case.objectives]


def flat_parameters(space: type[Space]) -> list[Any]:
    """Every parameter that can ever be active, as one that always is."""
    from ax.api.configs import ChoiceParameterConfig, RangeParameterConfig

    found: list[Any] = []
    for path, domain in space.domains().items():
        if isinstance(domain, Real):
            found.append(
                RangeParameterConfig(path, (domain.low, domain.high), "float", None, "log" if domain.log else None)
            )
        elif isinstance(domain, Integer):
            step = domain.step if domain.step > 1 else None
            found.append(RangeParameterConfig(path, (domain.low, domain.high), "int", step))
        else:
            kind = type(domain.values[0]).__name__
            ordered = domain.ordered or len(domain.values) == 2
            found.append(ChoiceParameterConfig(path, list(domain.values), kind, ordered))
    return found


def full(space: type[Space], arch: Architecture) -> dict[str, Any]:
    """The values of `arch`, and the first of its domain for every parameter that is not active in it."""
    return {path: arch.flat.get(path, domain.values[0]) for path, domain in space.domains().items()}


def arms() -> list[Arm]:
    packages = ("ax-platform", "botorch", "gpytorch", "torch")
    settings = {"generation": "default", "thresholds": "reference point"}
    return [Arm("ax", AxClient, settings, False, packages, seeds=1, trials=100, run_minutes=60.0)]
