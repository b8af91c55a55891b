"""Architecture search by gradients on shared weights: what `Darts` and `ProxylessNAS` have in common.

Weights and architecture distributions are trained in turn (Liu et al. 2019, arXiv 1806.09055, algorithm 1, first order),
on two parts of the *training* text; the validation text is never looked at. For every lambda there is one distribution,
and all share one set of weights. What a distribution minimises is

    E[loss in nats per token] + lambda * E[cost] / (mean cost of a uniform draw)

(ProxylessNAS, Cai et al. 2019, arXiv 1812.00332, section 3.3), so a lambda is what one average cost may cost in nats.
"""

from __future__ import annotations

import logging
import math
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from nas_bo.architecture import Architecture
from nas_bo.errors import SearchError, TrainingDiverged
from nas_bo.objective import Objective, PassesOn, owner_of
from nas_bo.once import once
from nas_bo.problem import Problem
from nas_bo.space import Space
from nas_bo.strategies.one_shot import result_store
from nas_bo.strategies.one_shot.relaxation import Relaxation, relaxation_of
from nas_bo.strategies.strategy import admissible, check_settings, fresh, generator, seen_ids
from nas_bo.trial import Trial
from nas_bo.validated import checked, number, whole_number

if TYPE_CHECKING:
    from nas_bo.model.data import Corpus
    from nas_bo.strategies.one_shot.alternation import Method
    from nas_bo.supernet.weights import Supernet

LOWER = 0.5  # factor on the learning rate of the second try after a divergence
FLATTER = 0.9  # times the logits after each draw of `suggest` that was there already
DRAWS = 50

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Look:
    """One distribution at one moment.

    Attributes:
        update: architecture updates done.
        weight: its lambda.
        loss: expected held-out nats per token, the mean since the last look; NaN where none was estimated.
        cost: expected cost in the unit of the objective.
        entropy: mean entropy of a decision, 1 when uniform, 0 when decided.
        skips: the share of blocks that are skips, of those that can be one; NaN where none can.
        eigenvalue: the largest one of the Hessian of the held-out loss, for strategies that have it.
    """

    update: int
    weight: float
    loss: float
    cost: float
    entropy: float
    skips: float
    eigenvalue: float | None = None


@dataclass(frozen=True)
class DartsResult:
    """What a gradient-based search found.

    Attributes:
        lambdas: the weights of the cost, one per distribution.
        logits: the distributions, (P,) each, of `nas_bo.strategies.one_shot.relaxation.Relaxation`.
        front: the most probable architecture of every distribution, in the order of the lambdas.
        history: what was seen on the way.
        stopped_because: one sentence per lambda.
        tokens: of all training passes, and of all passes for architecture updates.
        seconds, cpu_seconds: of the search.
        net: the shared weights; None when the result was read from a file.
    """

    lambdas: tuple[float, ...]
    logits: tuple[tuple[float, ...], ...] = field(repr=False)
    front: tuple[Architecture, ...]
    history: tuple[Look, ...] = field(repr=False)
    stopped_because: tuple[str, ...]
    tokens: tuple[int, int]
    seconds: float
    cpu_seconds: float
    net: Supernet | None = field(default=None, repr=False, compare=False)

    @property
    def eigenvalues(self) -> tuple[tuple[float, ...], ...]:
        """Per lambda, the eigenvalues of the looks at it; empty for strategies that have none."""
        return tuple(
            tuple(look.eigenvalue for look in self.history if look.weight == weight and look.eigenvalue is not None)
            for weight in self.lambdas
        )

    def distribution(self, space: type[Space], index: int) -> dict[str, dict[Any, float]]:
        """The probabilities of lambda number `index`: {path: {value or cell: probability}}."""
        relaxation = relaxation_of(space)
        p = relaxation.probabilities(np.array(self.logits[index]))
        rng = random.Random(0)
        return {
            path: {
                cells.value(i, rng) if cells.exact else f"part {i + 1} of {cells.count}": round(float(v), 6)
                for i, v in enumerate(p[relaxation.slices[path]])
            }
            for path, cells in relaxation.cells.items()
        }


def agreement(space: type[Space], results: Sequence[DartsResult]) -> tuple[float, ...]:
    """How far searches with different seeds agree, per lambda: 1 when all distributions are the same, 0 when any two are
    disjoint. It is 1 - the total variation between the distributions of a decision, averaged over decisions and pairs.

    Raises:
        SearchError: fewer than two results, or results of different lambdas.
    """
    if len(results) < 2 or len({result.lambdas for result in results}) > 1:
        raise SearchError(
            f"agreement needs at least two results of the same lambdas, there are {len(results)} of "
            f"{len({result.lambdas for result in results})}; search with two seeds or more"
        )
    relaxation = relaxation_of(space)
    found = []
    for index in range(len(results[0].lambdas)):
        p = [relaxation.probabilities(np.array(result.logits[index])) for result in results]
        pairs = [np.abs(a - b).sum() / 2 for i, a in enumerate(p) for b in p[:i]]
        found.append(1.0 - float(np.mean(pairs)) / len(relaxation.slices))
    return tuple(found)


@dataclass(frozen=True)
class GradientSearch(ABC):
    """Settings and course of a search by gradients; see `Darts` and `ProxylessNAS`.

    Attributes:
        lambdas: weights of the cost, one distribution for each; 0 asks for quality only.
        tokens: the budget of training the shared weights, in tokens of single passes.
        updates: architecture updates, spread over the run after its warm-up, and after it.
        seed: a whole number, or a generator that gives one (see `nas_bo.seeds`).
        rate: the step of Adam on the logits (Kingma and Ba 2015, betas 0.5 and 0.999 as in arXiv 1806.09055, A.1.1).
        regularise: pull of the logits to 0, as a factor: what keeps an early lead from deciding everything.
        warmup: share of the run in which the weights alone are trained.
        settled: share of the updates that is done when the weights are trained: the losses are then those of a
            finished supernet, and cheap.
        held_out: share of the training text for the architecture updates.
        most_skips: share of skips above which a distribution counts as collapsed if the loss alone pulls it there.
        cost: the cost to weigh, any objective that is analytic or has `predict`; None takes the first such objective
            of the problem.
        data, tokenizer: as in `nas_bo.model.load_corpus`; where both are None, the text of the problem's first
            objective that has one.
        device: a torch device; None is CUDA where there is one, else the CPU.
        checkpoint: a file for the result, so that processes share one search; None keeps it in memory only.
        ignore: top-level fields of the space that are the user's own; they stay uniform.
        vocab_size, token_dtype, text_key: as vocab_size, dtype and text_key in `nas_bo.model.load_corpus`.

    Raises:
        SearchError: a setting is out of range.
    """

    lambdas: tuple[float, ...] = (0.0, 0.02, 0.06, 0.12, 0.25, 0.5, 1.0, 2.5)
    tokens: float = checked(2_000_000, number(at_least=1))
    updates: int = checked(240, whole_number(1))
    seed: int = 0
    rate: float = checked(0.1, number(above=0))
    regularise: float = checked(1e-3, number(at_least=0, below=1))
    warmup: float = checked(0.4, number(at_least=0, at_most=1))
    settled: float = checked(0.5, number(at_least=0, at_most=1))
    held_out: float = checked(0.1, number(above=0, below=1))
    most_skips: float = checked(0.9, number(at_least=0, at_most=1))
    cost: Objective | None = None
    data: str | None = None
    tokenizer: str | None = None
    device: str | None = None
    checkpoint: str | None = None
    ignore: tuple[str, ...] = ()
    vocab_size: int | None = field(default=None, kw_only=True)
    token_dtype: str | None = field(default=None, kw_only=True)
    text_key: str | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        check_settings(self)
        object.__setattr__(self, "lambdas", _lambdas(type(self).__name__, self.lambdas))

    @abstractmethod
    def method(self) -> Method:
        """The way in which gradients are estimated; made once per search."""

    def text(self) -> Corpus:
        """The corpus that `data` names (raises DataError)."""
        from nas_bo.model import load_corpus

        return load_corpus(self.data, self.tokenizer, self.vocab_size, dtype=self.token_dtype, text_key=self.text_key)

    # ---- a search of its own --------------------------------------------------------------------------------------

    def search(
        self,
        space: type[Space],
        corpus: Corpus | None = None,
        cost: Objective | Callable[[Architecture], float] | None = None,
        progress: Callable[[int, int], Any] | None = None,
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
        from nas_bo.strategies.one_shot.alternation import Run

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
                run = Run(self, space, corpus, price, device, factor)
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


def _lambdas(kind: str, given: Any) -> tuple[float, ...]:
    values = (given,) if isinstance(given, (int, float)) else tuple(given) if isinstance(given, (tuple, list)) else ()
    good = all(isinstance(v, (int, float)) and not isinstance(v, bool) and 0 <= v < math.inf for v in values)
    if not values or not good or len(set(values)) < len(values):
        raise SearchError(f"{kind}(lambdas={given!r}): give one or several different finite numbers of at least 0")
    return tuple(float(v) for v in values)


def price_of(cost: Any) -> Callable[[Architecture], float] | None:
    """What is cheap to compute of a cost: its `predict`, or itself. More is worse."""
    if cost is None:
        return None
    sign = -1.0 if getattr(cost, "direction", "minimize") == "maximize" else 1.0
    function, kind = getattr(cost, "predict", None), "predict"
    if function is None:
        if getattr(cost, "cost", "analytic") != "analytic" or not callable(cost):
            raise SearchError(
                f"the cost {getattr(cost, 'name', cost)!r} is {getattr(cost, 'cost', 'no objective')!r} and has no predict; "
                "thousands of values are needed: take an analytic objective or one with predict, as Latency() or Parameters()"
            )
        function, kind = cost, ""
    if isinstance(cost, PassesOn):
        return lambda arch: sign * float(function(arch))
    return lambda arch: sign * float(once(owner_of(cost), function, arch, kind))


def _unseen(
    problem: Problem, relaxation: Relaxation, logits: np.ndarray, seen: set[str], rng: random.Random
) -> Architecture | None:
    for _ in range(DRAWS):
        arch = relaxation.draw(relaxation.probabilities(logits), rng).arch
        if arch.id not in seen and admissible(problem, arch):
            return arch
        logits = FLATTER * logits
    return None
