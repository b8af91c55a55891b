"""The strategies of nas_bo, asked directly; `NAME:blackbox` is told nothing of what could be computed."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import nas_bo
from benchmarks.search_efficiency.arms.session import Arm
from benchmarks.search_efficiency.problems import Case
from nas_bo import strategies
from nas_bo.architecture import Architecture
from nas_bo.trial import Trial

NAMES = ("Random", "NSGA2", "RegularizedEvolution", "LocalSearch", "Reinforce", "Bayes")
BLACKBOX = ":blackbox"


class Strategy:
    """A history and a strategy that is pure in it."""

    def __init__(self, name: str, known: bool, case: Case, seed: int) -> None:
        chosen = getattr(strategies, name)(seed=seed)
        self.strategy = strategies.Among(case.among, chosen) if case.among else chosen
        self.problem = case.problem(seed, known)
        self.trials: list[Trial] = []

    def ask(self) -> Architecture | None:
        return next(iter(self.strategy.suggest(self.problem, self.trials, 1)), None)

    def evaluate(self, arch: Architecture) -> Trial:
        return self.problem.evaluate(arch)

    def tell(self, arch: Architecture, outcome: Trial) -> None:
        t = outcome
        number = len(self.trials)
        self.trials.append(Trial(arch, t.values, t.violations, t.state, t.reason, t.info, number, t.seconds))

    def load(self, archs: Sequence[Architecture]) -> None:
        for arch in archs:
            self.tell(arch, self.evaluate(arch))


def arms() -> list[Arm]:
    """All strategies, then all but `Random` again as `:blackbox`."""
    found = [_arm(name, True) for name in NAMES]
    return found + [_arm(name, False) for name in NAMES if name != "Random"]


def _arm(name: str, known: bool) -> Arm:
    settings: dict[str, Any] = {"known": known}
    missing = ""
    try:
        settings["strategy"] = repr(getattr(strategies, name)(seed=0))
    except Exception as error:  # one that cannot be loaded must not keep the others from running
        missing = f"{type(error).__name__}: {error}"
    title = name if known else name + BLACKBOX
    make = partial(Strategy, name, known)
    return Arm(title, make, settings, ours=True, packages=("numpy",), missing=missing)


def source() -> str:
    """12 hexadecimal digits of the source of all strategies, to see which results are of which code."""
    digest = hashlib.sha256()
    for path in sorted((Path(nas_bo.__file__).parent / "strategies").glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]
