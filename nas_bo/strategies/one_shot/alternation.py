"""The course of a search by gradients: weights and distributions in turn (`nas_bo.strategies.one_shot.gradient` describes them)."""

from __future__ import annotations

import logging
import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from nas_bo.architecture import Architecture
from nas_bo.errors import SearchError, TrainingDiverged
from nas_bo.space import Space
from nas_bo.strategies.one_shot.collapse import Guard
from nas_bo.strategies.one_shot.gradient_result import DartsResult, Look
from nas_bo.strategies.one_shot.gradient_settings import GradientSettings
from nas_bo.strategies.one_shot.relaxation import Draw, Relaxation, expectation_gradient, relaxation_of
from nas_bo.strategies.strategy import generator
from nas_bo.wording import counted

if TYPE_CHECKING:
    from torch import Tensor

    from nas_bo.model.data import Corpus

LOOKS = 12  # how often in a run the distributions are looked at: history, guard
REFERENCE_DRAWS = 256  # uniform draws whose mean cost is the unit of cost
POOL = 128  # draws per update from which the gradient of the cost is estimated
LOOK_EVERY = 64  # steps, at most, between two looks at the losses

logger = logging.getLogger(__name__)


class Method(ABC):
    """How the two gradients are estimated.

    Attributes:
        apart: what has shared weights of its own, see `Supernet`.
    """

    apart: tuple[str, ...] = ()

    @abstractmethod
    def turn(self, run: Run, update: int) -> list[int]:
        """Which distributions (indices) are updated now."""

    @abstractmethod
    def train(self, run: Run, tokens: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """The loss to train the weights on, and its nats per token; tokens, targets (B, T)."""

    @abstractmethod
    def losses(self, run: Run, pool: Pool, tokens: Tensor, targets: Tensor) -> dict[int, tuple[float, np.ndarray]]:
        """For each distribution in turn: its expected held-out loss, and the gradient (P,) of that."""

    def eigenvalue(self, run: Run, index: int) -> float | None:
        """The largest eigenvalue of the Hessian of the held-out loss of one distribution; None where there is none."""
        return None


@dataclass(frozen=True)
class Pool:
    """Draws ~ the mean of the distributions in turn, and what makes them samples of each (Owen and Zhou 2000, "Safe and
    effective importance sampling", JASA 95).

    Attributes:
        draws: m of them.
        chosen, active: (m, P), see `Relaxation.indicators`.
        weights: (m,) per distribution, proportional to its probability over that of the mean; at most their number.
    """

    draws: list[Draw]
    chosen: np.ndarray
    active: np.ndarray
    weights: dict[int, np.ndarray]


class Run:
    """The state of one search."""

    def __init__(
        self,
        settings: GradientSettings,
        method: Method,
        space: type[Space],
        corpus: Corpus,
        price: Callable[[Architecture], float] | None,
        device: str,
        factor: float = 1.0,
    ) -> None:
        import torch

        from nas_bo.model.schedule import DEFAULTS
        from nas_bo.model.training_loop import Loop
        from nas_bo.supernet.weights import Supernet

        self.settings, self.space = settings, space
        self.device = torch.device(device)
        self.method = method
        first = torch.Generator().manual_seed(settings.seed % (1 << 63))
        net = Supernet(space, corpus.vocab_size, settings.ignore, apart=self.method.apart, generator=first)
        self.net = net.to(self.device)
        self.relaxation: Relaxation = relaxation_of(space, settings.ignore)
        self.text, self.held_out = parted(corpus, settings.held_out)
        self.batch, self.sequence = int(DEFAULTS["batch_size"]), int(DEFAULTS["sequence"])
        self.steps = max(2, int(settings.tokens) // (self.batch * self.sequence))
        groups = self.net.parameter_groups(factor * DEFAULTS["lr"], DEFAULTS["weight_decay"])
        self.loop = Loop(groups, list(self.net.parameters()), self.steps, DEFAULTS, self.device)
        self.rng = generator("gradient search", type(settings).__name__, settings.seed)
        self.logits = [self.relaxation.uniform() for _ in settings.lambdas]
        self._adam = [_Adam(self.relaxation.size, settings.rate) for _ in settings.lambdas]
        self._price = price
        self._prices: dict[tuple[object, ...], float] = {}
        drawn = [self.relaxation.draw(self.relaxation.probabilities(self.relaxation.uniform()), self.rng)
                 for _ in range(REFERENCE_DRAWS if price is not None else 0)]  # fmt: skip
        self.unit = max(1e-12, float(np.mean([abs(self.price(one.arch)) for one in drawn]))) if drawn else 1.0
        self.guard = Guard(self.relaxation, settings.lambdas, settings.most_skips)
        self.history: list[Look] = []
        self.tokens = [0, 0]
        self.updates = 0
        self._sums: dict[int, list[tuple[float, np.ndarray]]] = {}
        self._costs: dict[int, float] = {}

    # ---- the loop -------------------------------------------------------------------------------------------------

    def go(self, progress: Callable[[int, int], object] | None = None) -> None:
        from nas_bo.model.not_finite import MEND
        from nas_bo.model.training_loop import DIVERGED_ABOVE

        settings, loop = self.settings, self.loop
        first = min(self.steps - 1, round(settings.warmup * self.steps))
        during = round((1.0 - settings.settled) * settings.updates)
        due = Counter(np.linspace(first, self.steps, during + 1)[1:].astype(int).tolist())
        loop.every, loop.at, loop.patient = LOOK_EVERY, due.keys(), 0

        def look(losses: list[float]) -> bool:
            if math.isinf(loop.worst):  # narrow mixtures begin above guessing
                loop.worst = max(math.log(self.net.vocab_size), losses[0]) + DIVERGED_ABOVE
            bad = loop.diverged(losses)
            if bad is not None:
                blamed = f"; {self.net.not_finite[0]}; {MEND}" if self.net.not_finite else ""
                raise TrainingDiverged(
                    f"the shared weights diverged before step {loop.step} of {self.steps}: {bad[1]:.4g} nats per token{blamed}"
                )
            if progress is not None:
                progress(loop.step, self.steps)
            self._update(due[loop.step])
            return not self.guard.live()

        self.net.train()
        loop.go(lambda start, count: self._batches(self.text, start, count),
                lambda batch: [self.method.train(self, batch[:, :-1], batch[:, 1:])], look)  # fmt: skip
        self._update(settings.updates - during)
        self.net.eval()

    def _batches(self, corpus: Corpus, start: int, count: int) -> Tensor:
        from nas_bo.model.inference import as_tensor

        return as_tensor(corpus.batches(start, count, self.batch, self.sequence, self.settings.seed), self.device)

    def batch_of(self, corpus: Corpus, step: int) -> tuple[Tensor, Tensor]:
        """The windows of a step: inputs and targets (B, T)."""
        batch = self._batches(corpus, step, 1)[0]
        return batch[:, :-1], batch[:, 1:]

    def _update(self, times: int) -> None:
        for _ in range(times):
            if self.guard.live():
                self.update()

    def update(self) -> None:
        """One step of the distributions whose turn it is."""
        turn = self.method.turn(self, self.updates)
        pool = self.pool(turn, POOL)
        tokens, targets = self.batch_of(self.held_out, self.updates)
        found = self.method.losses(self, pool, tokens, targets)
        costs = np.array([self.price(draw.arch) for draw in pool.draws]) / self.unit
        for index, (loss, gradient) in found.items():
            weight, logits = self.settings.lambdas[index], self.logits[index]
            self._sums.setdefault(index, []).append((loss, gradient))
            total = gradient + self.settings.regularise * logits
            if weight:
                total = total + weight * expectation_gradient(costs, self.scores(pool, index), pool.weights[index])
            shares = pool.weights[index] / pool.weights[index].sum()
            self._costs[index] = float(shares @ costs) * self.unit
            self.logits[index] = logits - self._adam[index].step(total * self.relaxation.learned())
        self.updates += 1
        every = max(1, self.settings.updates // LOOKS)
        if self.updates % every == 0 or self.updates == self.settings.updates:
            for index in [i for i in self.guard.live() if i in self._sums]:
                self._look(index)

    def _look(self, index: int) -> None:
        p = self.probabilities(index)
        kept = self._sums.pop(index)
        pool = self.pool([index], POOL)
        skips = self.guard.skips(pool.chosen, pool.active)
        eigenvalue, entropy = self.method.eigenvalue(self, index), self.relaxation.entropy(p)
        self.history.append(
            Look(self.updates, self.settings.lambdas[index], float(np.mean([loss for loss, _ in kept])),
                 self._costs[index], entropy, skips, eigenvalue)
        )  # fmt: skip
        gradients = np.array([gradient for _, gradient in kept])
        kept_logits = self.guard.look(index, self.logits[index], skips, gradients, eigenvalue, entropy)
        if kept_logits is not None:
            self.logits[index] = kept_logits
            logger.warning("%s, lambda %g: %s", type(self.settings).__name__, self.settings.lambdas[index],
                           self.guard.reasons[index])  # fmt: skip

    # ---- for methods ----------------------------------------------------------------------------------------------

    def probabilities(self, index: int) -> np.ndarray:
        """(P,) of distribution number `index`."""
        return self.relaxation.probabilities(self.logits[index])

    def pool(self, indices: Sequence[int], count: int) -> Pool:
        """`count` draws for the distributions `indices`."""
        p = {index: self.probabilities(index) for index in indices}
        draws = [self.relaxation.draw(p[indices[self.rng.randrange(len(indices))]], self.rng) for _ in range(count)]
        chosen, active = self.relaxation.indicators(draws)
        logs = {index: chosen @ np.log(np.maximum(each, 1e-300)) for index, each in p.items()}
        top = np.max(list(logs.values()), axis=0)
        mean = np.mean([np.exp(each - top) for each in logs.values()], axis=0)
        return Pool(draws, chosen, active, {index: np.exp(each - top) / mean for index, each in logs.items()})

    def scores(self, pool: Pool, index: int) -> np.ndarray:
        """(m, P): gradients of log p of distribution number `index` at the draws of a pool."""
        return np.asarray(pool.chosen - pool.active * self.probabilities(index))

    def price(self, arch: Architecture) -> float:
        """The cost of an architecture (raises SearchError where it is not finite); 0 where there is none."""
        if self._price is None:
            return 0.0
        key = tuple(arch.flat.items())
        if key not in self._prices:
            found = float(self._price(arch))
            if not math.isfinite(found):
                raise SearchError(f"the cost of {dict(arch.flat)} is {found}; it must be a finite number everywhere")
            self._prices[key] = found
        return self._prices[key]

    def result(self) -> DartsResult:
        front = tuple(self._valid_mode(index) for index in range(len(self.logits)))
        return DartsResult(
            self.settings.lambdas, tuple(tuple(float(v) for v in one) for one in self.logits), front,
            tuple(self.history), tuple(self.guard.reasons), (self.tokens[0], self.tokens[1]), 0.0, 0.0, self.net,
        )  # fmt: skip

    def _valid_mode(self, index: int) -> Architecture:
        """The most probable architecture; where a rule forbids it, the most probable of some draws."""
        p = self.probabilities(index)
        arch = self.relaxation.most_probable(p)
        if not self.space.violations(arch):
            return arch
        drawn = [self.relaxation.draw(p, self.rng) for _ in range(POOL)]
        chosen, _ = self.relaxation.indicators(drawn)
        logs = chosen @ np.log(np.maximum(p, 1e-300))
        valid = [i for i, one in enumerate(drawn) if not self.space.violations(one.arch)] or range(len(drawn))
        return drawn[max(valid, key=lambda i: logs[i])].arch


class _Adam:
    """Adam (Kingma and Ba 2015, arXiv 1412.6980, algorithm 1) on one vector of logits."""

    def __init__(self, size: int, rate: float) -> None:
        self.rate, self.count = rate, 0
        self.mean, self.square = np.zeros(size), np.zeros(size)

    def step(self, gradient: np.ndarray, first: float = 0.5, second: float = 0.999) -> np.ndarray:
        """What is to be taken off the logits."""
        self.count += 1
        self.mean = first * self.mean + (1 - first) * gradient
        self.square = second * self.square + (1 - second) * gradient**2
        corrected = np.sqrt(self.square / (1 - second**self.count))
        return np.asarray(self.rate * self.mean / (1 - first**self.count) / (corrected + 1e-8))


def parted(corpus: Corpus, share: float, blocks: int = 20) -> tuple[Corpus, Corpus]:
    """The training text in two parts: what is left, and `share` of it, taken from the ends of equal blocks (from its
    end, where it is a file mapped into memory, which is not copied).

    Raises:
        SearchError: a part is too short for a window.
    """
    text = corpus.train
    if isinstance(text, np.memmap):
        blocks = 1
    edges = np.linspace(0, len(text), blocks + 1).astype(np.int64)
    cuts = edges[1:] - np.maximum(1, (share * np.diff(edges)).astype(np.int64))
    pieces = [(text[a:c], text[c:b]) for a, c, b in zip(edges[:-1], cuts, edges[1:], strict=True)]
    parts = pieces[0] if blocks == 1 else tuple(np.concatenate(part) for part in zip(*pieces, strict=True))
    if min(len(part) for part in parts) < 1024:
        raise SearchError(
            f"held_out={share} leaves {len(parts[0]):,} and {counted(len(parts[1]), 'training token')} of {corpus.name!r}; each "
            "part needs at least 1,024: give more text, or another share"
        )
    left, right = (replace(corpus, name=f"{corpus.name}, {name}", train=part)
                   for name, part in zip(("for weights", "for architectures"), parts, strict=True))  # fmt: skip
    return left, right
