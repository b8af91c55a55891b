"""SMAC3, syne-tune and NePS on the flat space: every parameter is always there. They need an environment of their own, since NePS holds
gpytorch at a version that is too old for Ax; without them these arms are left out.

SMAC3: its facade for hyperparameters, ParEGO for several objectives. syne-tune: CQR, the best of its own for one objective (Salinas et
al., 2023, arXiv 2307.03623), expected hypervolume improvement for several, which found next to nothing in two runs: its reference point (version 0.16, two standard deviations on the
side that its model maximises) lies beyond nearly everything. NePS: Bayesian optimization, which is given the reference point.
Ordered choices are integers (positions among the values), except in SMAC3, which has ordinal ones.
"""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

from benchmarks.search_efficiency.arms.session import Arm
from benchmarks.search_efficiency.problems import Case
from nas_bo.architecture import Architecture
from nas_bo.space.domain import Domain, Real

Told = dict[str, float]


class Flat:
    """What the three have in common."""

    def __init__(self, case: Case, seed: int) -> None:
        warnings.simplefilter("ignore")
        self.case, self.seed = case, seed
        self.asked: Any = None

    def evaluate(self, arch: Architecture) -> Told:
        return self.case.told(arch, self.seed)

    def costs(self, outcome: Told) -> list[float]:
        return [outcome[name] for name in self.case.objectives]

    def made(self, values: dict[str, Any]) -> Architecture:
        return self.case.space.decide(lambda path, domain: _value(domain, values[path]))

    def ask(self) -> Architecture:
        raise NotImplementedError

    def tell(self, arch: Architecture, outcome: Told) -> None:
        raise NotImplementedError

    def load(self, archs: Sequence[Architecture]) -> None:
        """A foreign history cannot be given to all of them: as many evaluations of their own."""
        for _ in archs:
            arch = self.ask()
            self.tell(arch, self.evaluate(arch))


def _value(domain: Domain, value: Any) -> Any:
    if isinstance(domain, Real):
        return domain.at(float(value))
    return domain.values[int(value)]


class Smac(Flat):
    def __init__(self, case: Case, seed: int) -> None:
        super().__init__(case, seed)
        import ConfigSpace as cs
        from smac import HyperparameterOptimizationFacade as Facade
        from smac import Scenario
        from smac.multi_objective.parego import ParEGO

        logging.getLogger("smac").setLevel(logging.ERROR)
        space = cs.ConfigurationSpace(seed=seed)
        for path, domain in case.space.domains().items():
            if isinstance(domain, Real):
                space.add(cs.UniformFloatHyperparameter(path, 0.0, 1.0))
            elif domain.ordered:
                space.add(cs.OrdinalHyperparameter(path, list(range(len(domain.values)))))
            else:
                space.add(cs.CategoricalHyperparameter(path, list(range(len(domain.values)))))
        self.folder = tempfile.TemporaryDirectory()
        scenario = Scenario(
            space, objectives=list(case.objectives), n_trials=1000, seed=seed, deterministic=True, output_directory=self.folder.name
        )  # fmt: skip
        several = {"multi_objective_algorithm": ParEGO(scenario)} if len(case.objectives) > 1 else {}
        self.smac = Facade(scenario, lambda config, seed=0: 0.0, overwrite=True, logging_level=False, **several)

    def ask(self) -> Architecture:
        self.asked = self.smac.ask()
        return self.made(dict(self.asked.config))

    def tell(self, arch: Architecture, outcome: Told) -> None:
        from smac.runhistory.dataclasses import TrialValue

        costs = self.costs(outcome)
        self.smac.tell(self.asked, TrialValue(cost=costs if len(costs) > 1 else costs[0]))


class SyneTune(Flat):
    def __init__(self, case: Case, seed: int) -> None:
        super().__init__(case, seed)
        from syne_tune.config_space import choice, randint, uniform
        from syne_tune.optimizer.baselines import CQR, EHVI
        from syne_tune.optimizer.schedulers.ask_tell_scheduler import AskTellScheduler

        logging.getLogger("syne_tune").setLevel(logging.ERROR)
        space: dict[str, Any] = {}
        for path, domain in case.space.domains().items():
            if isinstance(domain, Real):
                space[path] = uniform(0.0, 1.0)
            elif domain.ordered and len(domain.values) > 1:
                space[path] = randint(0, len(domain.values) - 1)
            else:
                space[path] = choice([str(at) for at in range(len(domain.values))])
        names = list(case.objectives)
        scheduler = CQR(space, names[0], random_seed=seed) if len(names) == 1 else EHVI(space, names, random_seed=seed)
        self.scheduler = AskTellScheduler(scheduler)

    def ask(self) -> Architecture:
        self.asked = self.scheduler.ask()
        return self.made(self.asked.config)

    def tell(self, arch: Architecture, outcome: Told) -> None:
        self.scheduler.tell(self.asked, {name: outcome[name] for name in self.case.objectives})


class Neps(Flat):
    def __init__(self, case: Case, seed: int) -> None:
        super().__init__(case, seed)
        import random

        import neps
        import numpy as np
        import torch
        from neps.optimizers import load_optimizer
        from neps.space import SearchSpace

        for seeded in (random.seed, np.random.seed, torch.manual_seed):  # it has no seed of its own
            seeded(seed)
        parts: dict[str, Any] = {}
        for path, domain in case.space.domains().items():
            if isinstance(domain, Real):
                parts[path] = neps.HPOFloat(0.0, 1.0)
            elif domain.ordered and len(domain.values) > 1:
                parts[path] = neps.HPOInteger(0, len(domain.values) - 1)
            else:
                parts[path] = neps.HPOCategorical(list(range(len(domain.values))))
        settings = {"reference_point": case.point} if len(case.objectives) > 1 else {}
        optimizer, _ = load_optimizer(("bayesian_optimization", settings), SearchSpace(parts))
        self.neps = neps.AskAndTell(optimizer)

    def ask(self) -> Architecture:
        self.asked = self.neps.ask()
        return self.made(dict(self.asked.config))

    def tell(self, arch: Architecture, outcome: Told) -> None:
        costs = self.costs(outcome)
        self.neps.tell(self.asked, {"objective_to_minimize": costs if len(costs) > 1 else costs[0]})


def arms() -> list[Arm]:
    made = [
        ("smac", Smac, "smac", {"facade": "HyperparameterOptimizationFacade", "several": "ParEGO"}),
        ("syne-tune", SyneTune, "syne_tune", {"one": "CQR", "several": "EHVI"}),
        ("neps", Neps, "neps", {"optimizer": "bayesian_optimization"}),
    ]
    packages = {"neps": "neural-pipeline-search"}
    return [
        Arm(
            name,
            make,
            settings,
            False,
            (packages.get(name, name),),
            5,
            100,
            missing="" if find_spec(module) else f"no module {module}",
        )
        for name, make, module, settings in made
    ]
