"""GDAS (Dong and Yang 2019, arXiv 1910.04465): one sampled path per pass, and gradients through one-hot gates.

The forward pass is a network that can be built (equation 3, a draw by the Gumbel-max trick is a draw from the softmax);
the backward pass takes the gates for the softmax itself (straight-through). Two things are our own:

* operations off the path are computed forward only, so that every update says something of every operation; GDAS leaves
  them out, whose gradient then rests on the path's own operations alone;
* what is not an operation of a block, depth and width among them, is not relaxed: the loss with every other value
  is computed where there are at most `FEW`, the rest is estimated by score functions.

Like `ProxylessNAS` it trains the weights along single paths and shares the paths of an update between the lambdas by
importance weights. What is biased: the loss is linear in the gates only to first order.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nas_bo.strategies.one_shot.alternation import Method, Pool, Run
from nas_bo.strategies.one_shot.darts import Plan, frozen
from nas_bo.strategies.one_shot.gradient import GradientSearch
from nas_bo.strategies.one_shot.proxyless import trained_path
from nas_bo.strategies.one_shot.relaxation import Draw, expectation_gradient
from nas_bo.validated import checked, number, whole_number

if TYPE_CHECKING:
    from torch import Tensor

FEW = 8  # values of a decision all of which are tried


@dataclass(frozen=True)
class GDAS(GradientSearch):
    """Gradient-based, hardware-aware search along single paths with straight-through gates; see the module.

    Attributes:
        paths: how many draws each update looks at.
        explore: share of the training paths that are uniform draws, so that no path is judged untrained.
    """

    tokens: float = checked(400_000, number(at_least=1))
    updates: int = checked(80, whole_number(1))
    paths: int = checked(2, whole_number(2))
    explore: float = checked(0.5, number(at_least=0, at_most=1))

    def method(self) -> Method:
        return _Gates(self.paths, self.explore)


class _Gates(Method):
    def __init__(self, paths: int, explore: float) -> None:
        self.paths, self.explore = paths, explore
        self._plan: Plan | None = None

    def turn(self, run: Run, update: int) -> list[int]:
        return run.guard.live()

    def train(self, run: Run, tokens: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        return trained_path(run, self.explore, tokens, targets)

    def losses(self, run: Run, pool: Pool, tokens: Tensor, targets: Tensor) -> dict[int, tuple[float, np.ndarray]]:
        self._plan = self._plan or Plan(run.relaxation)
        looks = [Alternatives(run, self._plan, draw, tokens, targets) for draw in pool.draws[: self.paths]]
        n, values = len(looks), np.array([look.value for look in looks])
        left = run.relaxation.learned({path for look in looks for path in look.paths})
        answers = {}
        for index, weights in pool.weights.items():
            shares, p = weights[:n] / weights[:n].sum(), run.probabilities(index)
            gradient = expectation_gradient(values, run.scores(pool, index)[:n] * left, weights[:n])
            gradient += sum(share * look.gradient(p) for share, look in zip(shares, looks, strict=True))
            answers[index] = float(shares @ values), gradient
        return answers


class Alternatives:
    """What a draw would lose or gain with other cells.

    Attributes:
        value: the loss of the draw, nats per token.
        paths: the decisions that were looked at.
        rows: for every alternative, where the logits of its cells are.
        changes: the loss with it, or, for operations of blocks, its change to first order.
    """

    def __init__(self, run: Run, plan: Plan, draw: Draw, tokens: Tensor, targets: Tensor) -> None:
        import torch

        self.relaxation = run.relaxation
        self.paths: set[str] = set()
        self.rows: list[list[int]] = []
        self.changes: list[float] = []
        passes = 1.0
        with frozen(run.net):
            from nas_bo.model.connections import connected

            spec = run.net.spec(draw.arch)
            if spec.parallel or not plan.mixed or connected(spec.layers, spec.details):
                with torch.no_grad():
                    self.value = float(run.net.loss(tokens, targets, draw.arch)[1])
            else:
                passes += self._blocks(run, plan, draw, tokens, targets)
            for path in draw.cells:
                cells = self.relaxation.cells[path]
                if path in self.paths or path in self.relaxation.fixed or not 1 < cells.count <= FEW:
                    continue
                for cell in range(cells.count):
                    loss = self.value
                    other = draw if cell == draw.cells[path] else plan.changed(draw, {path: cell})
                    if other is not draw and run.net.covers(other.arch):  # what cannot be built changes nothing
                        with torch.no_grad():
                            loss = float(run.net.loss(tokens, targets, other.arch)[1])
                        passes += 1
                    self._add([self.relaxation.slices[path].start + cell], loss, [path])
        run.tokens[1] += round(passes * tokens.numel())
        self._places()

    def _blocks(self, run: Run, plan: Plan, draw: Draw, tokens: Tensor, targets: Tensor) -> float:
        """Look at what is mixed; gives how many forward passes that took in addition to the first."""
        from nas_bo.supernet.swaps import swaps

        complete = plan.completed(draw, run.probabilities(run.guard.live()[0]), run.rng)
        exits, places, layers = plan.options(run.net, complete)
        blocks = [{part: [block for _, block in options] for part, options in layer.items()} for layer in layers]
        leave = len(exits) - 1
        if plan.depth is not None:
            leave = places.index(self.relaxation.slices[plan.depth].start + draw.cells[plan.depth])
        losses, changes = swaps(run.net, tokens, targets, run.net.spec(complete.arch), blocks, exits, leave)
        found = losses.tolist()
        self.value = found[leave]
        if plan.depth is not None:
            for place, loss in zip(places, found, strict=True):
                self._add([place], loss, [plan.depth])
        every = [places for layer in layers for options in layer.values() for places, _ in options]
        for at, change in zip(every, changes.tolist(), strict=True):
            if at:
                self._add(at, change, ())
        self.paths |= plan.mixed
        return 1.0 + sum(len({*one}) for layer in blocks for one in layer.values()) / (2 * len(blocks))

    def _add(self, at: list[int], change: float, paths: Iterable[str]) -> None:
        self.rows.append(at)
        self.changes.append(change)
        self.paths.update(paths)

    def _places(self) -> None:
        owner = np.empty(self.relaxation.size, dtype=int)
        masks = np.zeros((len(self.relaxation.slices), self.relaxation.size))
        for row, at in enumerate(self.relaxation.slices.values()):
            owner[at], masks[row, at] = row, 1.0
        self._chosen = np.zeros((len(self.rows), self.relaxation.size))
        self._active = np.zeros((len(self.rows), self.relaxation.size))
        for row, cells in enumerate(self.rows):
            self._chosen[row, cells] = 1.0
            self._active[row] = masks[owner[cells]].sum(0)

    def shares(self, p: np.ndarray) -> np.ndarray:
        """(rows,): the probability of every alternative among those of its decision or block."""
        return np.asarray(np.exp(self._chosen @ np.log(np.maximum(p, 1e-300))))

    def gradient(self, p: np.ndarray) -> np.ndarray:
        """(P,): of the expected loss over one decision, or the decisions of one block, at a time, with probabilities p."""
        weighted = self.shares(p) * np.array(self.changes)
        return np.asarray(weighted @ self._chosen - (weighted @ self._active) * p)
