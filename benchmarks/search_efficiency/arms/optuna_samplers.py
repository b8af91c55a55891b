"""Optuna's stock samplers and optuna-integration's BoTorchSampler, define-by-run: a conditional parameter exists only
where its layer does. Limits are Optuna's constraints, signed, so that its models see how near a feasible point is."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import partial
from typing import Any

from benchmarks.search_efficiency.arms.session import Arm
from benchmarks.search_efficiency.problems import Case
from benchmarks.search_efficiency.problems.llmforge import nearest
from nas_bo.architecture import Architecture

Told = dict[str, float]


class Study:
    def __init__(self, sampler: str, settings: dict[str, Any], case: Case, seed: int) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        warnings.simplefilter("ignore")
        self.case, self.seed = case, seed
        self.trial: Any = None
        self.seen: set[str] = set()
        if sampler == "BoTorchSampler":
            from optuna_integration import BoTorchSampler as kind
        elif sampler == "nas_bo":
            from nas_bo.optuna import Sampler as kind
        else:
            kind = getattr(optuna.samplers, sampler)
        self.study = optuna.create_study(
            directions=["minimize"] * len(case.objectives), sampler=kind(seed=seed, **settings)
        )
        self.study.set_metric_names(list(case.objectives))

    def ask(self) -> Architecture:
        from nas_bo.optuna import suggest

        self.trial = self.study.ask()
        arch = suggest(self.trial, self.case.space)
        if not self.case.among:
            return arch
        found = nearest(self.case, arch, self.seen)
        self.seen.add(found.id)
        return found

    def evaluate(self, arch: Architecture) -> Told:
        return self.case.told(arch, self.seed)

    def tell(self, arch: Architecture, outcome: Told) -> None:
        if self.case.among:  # what was looked at is not what was asked for
            import optuna

            self.study.tell(self.trial, state=optuna.trial.TrialState.FAIL)
            self.load([arch])
            return
        for name, amount in self._constraints(outcome).items():
            self.trial.set_constraint(name, amount)
        self.study.tell(self.trial, [outcome[name] for name in self.case.objectives])

    def load(self, archs: Sequence[Architecture]) -> None:
        import optuna

        from nas_bo.optuna import distributions

        every = distributions(self.case.space)
        for arch in archs:
            told = self.evaluate(arch)
            self.study.add_trial(
                optuna.trial.create_trial(
                    params=dict(arch.flat),
                    distributions={name: every[name] for name in arch.flat},
                    values=[told[name] for name in self.case.objectives],
                    constraints=self._constraints(told) or None,
                )
            )

    def _constraints(self, told: Told) -> dict[str, float]:
        return {name: told[name] - bound for name, bound in sorted(self.case.limits.items())}


def arms() -> list[Arm]:
    return [
        _arm("optuna-random", "RandomSampler"),
        _arm("optuna-nsga2", "NSGAIISampler", population_size=20),
        _arm("optuna-tpe", "TPESampler", multivariate=True, group=True),
        _arm("Bayes:door", "nas_bo", ("nas_bo",), 5, 100),
        _arm("optuna-gp", "GPSampler", ("torch", "scipy"), seeds=5, trials=100),
        _arm("optuna-botorch", "BoTorchSampler", ("optuna-integration", "botorch", "torch"), 1, 100, 15.0),
    ]


def _arm(
    name: str,
    sampler: str,
    packages: tuple[str, ...] = (),
    seeds: int = 10,
    trials: int = 200,
    run_minutes: float = 60.0,
    **settings: Any,
) -> Arm:
    make = partial(Study, sampler, settings)
    kept = {"sampler": sampler, **settings}
    return Arm(name, make, kept, sampler == "nas_bo", ("optuna", *packages), seeds, trials, run_minutes)
