"""The estimates that are compared: each evaluates one architecture and says what it cost."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from nas_bo.architecture import Architecture
from nas_bo.model import Corpus, load_corpus, train
from nas_bo.objectives import (
    GradientNorm,
    Grasp,
    InitialLoss,
    JacobianCovariance,
    MarkovSource,
    Naswot,
    ProxyTask,
    SharedWeightLoss,
    Snip,
    Synflow,
    ValidationLoss,
    ZenScore,
)
from nas_bo.search_spaces import TinyGPT

TOKENS = 500_000  # of a reference run
SUPERNET_TOKENS = 6_044_672  # as many passes as ten reference trainings of middling architectures
FIRST, FRESH = 32, 40  # architectures
SHARES = (0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.75)


@dataclass(frozen=True)
class Arm:
    """One estimate.

    Attributes:
        evaluate: (architecture, seed) -> {"value": ..., and what else is worth keeping}.
        seeds: all that are evaluated; their mean is the estimate.
        prepare: done once before; gives its processor seconds, 0.0 for nothing.
        larger_is_better: the estimate rises with quality.
    """

    name: str
    evaluate: Callable[[Architecture, int], dict[str, Any]]
    seeds: Sequence[int] = (7,)
    prepare: Callable[[], float] = lambda: 0.0
    larger_is_better: bool = False


@cache
def corpus() -> Corpus:
    return load_corpus()


def architectures(n: int = FIRST + FRESH) -> list[Architecture]:
    """The first 32 distinct ones of the default space by the seeds 0, 1, ..., on which estimates were compared and chosen;
    then 40 fresh ones, by the seeds from 40 on, on which what was chosen is confirmed."""
    found: dict[str, Architecture] = {}
    seed = 0
    while len(found) < FIRST:
        arch = TinyGPT.sample(seed)
        found.setdefault(arch.id, arch)
        seed += 1
    fresh = [TinyGPT.sample(seed) for seed in range(40, 40 + FRESH)]
    return [*found.values(), *fresh][:n]


def reference(arch: Architecture, seed: int) -> dict[str, Any]:
    result = train(arch, corpus(), tokens=TOKENS, seed=seed, validate_at=SHARES)
    return {"value": result.bits_per_byte, "validation": result.validation, "curve": result.curve}


def objective(made: Callable[[int], Any]) -> Callable[[Architecture, int], dict[str, Any]]:
    """An arm that evaluates an objective, given the seed."""

    def evaluate(arch: Architecture, seed: int) -> dict[str, Any]:
        return {"value": float(made(seed)(arch))}

    return evaluate


def score(kind: Any) -> Arm:
    """A zero-cost score, mean of three seeds, in its published direction."""
    name = kind.__name__
    return Arm(name, objective(lambda seed: kind()), larger_is_better=kind().direction == "maximize")


def shared(name: str, fine_tune: float) -> Arm:
    """Scores by one supernet, kept in the working directory."""
    estimate = SharedWeightLoss(
        TinyGPT, SUPERNET_TOKENS, "fidelity_supernet.pt", fine_tune=fine_tune, reference_tokens=TOKENS
    )

    def prepare() -> float:
        began = time.process_time()
        estimate.supernet()
        return round(time.process_time() - began, 1)

    return Arm(name, objective(lambda seed: estimate), prepare=prepare)


ARMS: list[Arm] = [
    Arm("reference", reference, seeds=(0, 1, 2)),
    Arm("quick(cost=0.25)", objective(lambda seed: ValidationLoss.quick(TOKENS, 0.25, seed=seed))),
    Arm("quick(cost=0.1)", objective(lambda seed: ValidationLoss.quick(TOKENS, 0.1, seed=seed))),
    *map(score, (Synflow, Snip, Grasp, GradientNorm, Naswot, JacobianCovariance, ZenScore, InitialLoss)),
    shared("shared weights", 0.0),
    shared("shared weights, 5 % fine-tune", 0.05),
    Arm("MarkovSource task", objective(lambda seed: ProxyTask(MarkovSource(), steps=100, rows=8))),
]
