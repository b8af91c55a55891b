"""Architecture search by gradients on shared weights: what `Darts` and `ProxylessNAS` have in common.

Weights and architecture distributions are trained in turn (Liu et al. 2019, arXiv 1806.09055, algorithm 1, first order),
on two parts of the *training* text; the validation text is never looked at. For every lambda there is one distribution,
and all share one set of weights. What a distribution minimises is

    E[loss in nats per token] + lambda * E[cost] / (mean cost of a uniform draw)

(ProxylessNAS, Cai et al. 2019, arXiv 1812.00332, section 3.3), so a lambda is what one average cost may cost in nats.
"""

from __future__ import annotations

import logging
import random
import time
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from nas_bo.architecture import Architecture
from nas_bo.errors import SearchError, TrainingDiverged
from nas_bo.objective import Objective
from nas_bo.problem import Problem
from nas_bo.space import Space
from nas_bo.strategies.one_shot import result_store
from nas_bo.strategies.one_shot.alternation import Method, Run
from nas_bo.strategies.one_shot.gradient_result import DartsResult, Look, agreement
from nas_bo.strategies.one_shot.gradient_settings import GradientSettings, price_of
from nas_bo.strategies.one_shot.relaxation import Relaxation, relaxation_of
from nas_bo.strategies.strategy import admissible, fresh, generator, seen_ids
from nas_bo.trial import Trial

if TYPE_CHECKING:
    from nas_bo.model.data import Corpus

LOWER = 0.5  # factor on the learning rate of the second try after a divergence
FLATTER = 0.9  # times the logits after each draw of `suggest` that was there already
DRAWS = 50

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class GradientSearch(GradientSettings):
    """Course of a search by gradients; see `Darts` and `ProxylessNAS`, and for the settings `GradientSettings`."""

    @abstractmethod
    def method(self) -> Method:
        """The way in which gradients are estimated; made once per search."""

    # ---- a search of its own --------------------------------------------------------------------------------------

    def search(
        self,
        space: type[Space],
        corpus: Corpus | None = None,
        cost: Objective | Callable[[Architecture], float] | None = None,
        progress: Callable[[int, int], object] | None = None,
    ) -> DartsResult:
        """Train weights and distributions.

        Args:
            space: a space over the block vocabulary.
            corpus: the text; None loads `data`.
            cost: see the attribute `cost`; here it may also be any function of an architecture.
            progress: called with (step, steps) from time to time.

        Raises:
            ModelError: the supernet cannot cover the space; the message names the choice.
            SearchError: lambdas above 0 without a cost, or a cost that is not a finite number.
            TrainingDiverged: the weights diverged twice.
        """
        from nas_bo.model.device import pick_device
        from nas_bo.model.inference import torch_threads

        corpus = self.text() if corpus is None else corpus
        price = price_of(cost if cost is not None else self.cost)
        if price is None and any(self.lambdas):
            raise SearchError(
                f"{type(self).__name__}: lambdas={self.lambdas} weigh a cost and there is none; pass cost=Latency(), or "
                "any objective that is analytic or has predict, or lambdas=(0,)"
            )
        device = pick_device(self.device)
        wall, cpu = time.perf_counter(), time.process_time()
        with torch_threads(1 if device == "cpu" else None):
            factor = 1.0
            while True:
                run = Run(self, self.method(), space, corpus, price, device, factor)
                try:
                    run.go(progress)
                    break
                except TrainingDiverged as error:
                    if factor < 1:
                        raise
                    logger.warning("%s; beginning again with half the learning rate", error)
                    factor = LOWER
        return replace(run.result(), seconds=time.perf_counter() - wall, cpu_seconds=time.process_time() - cpu)

    # ---- as a strategy --------------------------------------------------------------------------------------------

    def suggest(self, problem: Problem, trials: Sequence[Trial], n: int) -> list[Architecture]:
        """See `Strategy.suggest`. The first call trains, later ones in this process, or with the same `checkpoint`,
        read what was learned. The most probable architecture of every lambda comes first, then samples in turn.

        Raises:
            ModelError: the supernet cannot cover the space; the message names the choice.
        """
        result = result_store.result_of(self, problem)
        relaxation = relaxation_of(problem.space, self.ignore)
        rng, seen = generator("gradient", type(self).__name__, self.seed, len(trials)), seen_ids(trials)
        batch: list[Architecture] = []
        while len(batch) < n:
            turn = len(trials) + len(batch)
            index = turn % len(result.lambdas)
            arch: Architecture | None = result.front[index] if turn < len(result.lambdas) else None
            if arch is None or arch.id in seen or not admissible(problem, arch):
                arch = _unseen(problem, relaxation, np.array(result.logits[index]), seen, rng)
            arch = fresh(problem, seen, rng) if arch is None else arch
            if arch is None:
                break
            seen.add(arch.id)
            batch.append(arch)
        return batch


def _unseen(
    problem: Problem, relaxation: Relaxation, logits: np.ndarray, seen: set[str], rng: random.Random
) -> Architecture | None:
    for _ in range(DRAWS):
        arch = relaxation.draw(relaxation.probabilities(logits), rng).arch
        if arch.id not in seen and admissible(problem, arch):
            return arch
        logits = FLATTER * logits
    return None


__all__ = ["DartsResult", "GradientSearch", "Look", "agreement", "price_of"]
