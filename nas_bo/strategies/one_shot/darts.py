"""DARTS (Liu et al. 2019, arXiv 1806.09055): layers as mixtures of all their operations, trained by gradient descent.

How the decisions of a space are treated:

* the kind of every mixer and every mlp, with its sizes: mixed, exactly as in equation 2, by the probabilities of all
  combinations (heads and groups of attention, kernels, ratios);
* depth: the expectation of the loss over all depths, exactly, since every depth is an exit of one pass;
* all else (width, norm, position, ...): sampled, by the score function with a leave-one-out baseline, without bias;
* blocks whose combinations are more than `MOST`, blocks that are not written per layer, and networks with
  ``parallel=True`` or layers that are connected (``share_kv``, ``tie_layers``, ``long_skips``): sampled likewise.

Rules of the space are kept by what is sampled; inside a mixture they are not looked at. First order: the weights are
taken as they are when the architecture is updated (section 2.3, xi = 0).
"""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nas_bo.space import Space
from nas_bo.strategies.one_shot.alternation import Method, Pool, Run
from nas_bo.strategies.one_shot.collapse import largest_eigenvalue
from nas_bo.strategies.one_shot.gradient import GradientSearch
from nas_bo.strategies.one_shot.relaxation import Draw, Relaxation, expectation_gradient
from nas_bo.strategies.strategy import generator
from nas_bo.validated import checked, number, whole_number

if TYPE_CHECKING:
    from torch import Tensor

    from nas_bo.model.spec import DecoderSpec
    from nas_bo.supernet.weights import Supernet

MOST = 24  # combinations of one block that are mixed
FEW_DRAWS = 8  # in which connected layers are looked for, where no choice is about them
REMEMBERED = 64  # sampled parts whose options are kept
BLOCK = re.compile(r"layers\.(\d+)\.(mixer|mlp)(\.|$)")


@dataclass(frozen=True)
class Darts(GradientSearch):
    """Differentiable search over mixtures of operations; see the module for what is mixed and what is sampled.

    A mixed pass costs as much as all its operations together, so the same number of tokens takes several times the time
    of `ProxylessNAS`, and the weights learn in a network that will not be built. The largest eigenvalue of the Hessian
    of the held-out loss with respect to the logits is watched, and a distribution whose eigenvalue jumps is stopped.

    Attributes:
        samples: draws of the sampled decisions per architecture update.
        iterations: of the power method, at most, at each look (three times as many at the first, which begins with a
            random vector); 0 does not watch eigenvalues.
    """

    lambdas: tuple[float, ...] = (0.03, 0.1, 0.3, 1.0)
    tokens: float = checked(200_000, number(at_least=1))
    samples: int = checked(2, whole_number(2))
    iterations: int = checked(3, whole_number(0))

    def method(self) -> Method:
        return _Mixed(self.samples, self.iterations)


class _Mixed(Method):
    apart = ("layer",)  # in a mixture no operation is the second of its kind: which came before is not decided

    def __init__(self, samples: int, iterations: int) -> None:
        self.samples, self.iterations = samples, iterations
        self._plan: Plan | None = None
        self._vectors: dict[int, np.ndarray] = {}

    def turn(self, run: Run, update: int) -> list[int]:
        live = run.guard.live()
        return [live[update % len(live)]]

    def plan(self, run: Run) -> Plan:
        if self._plan is None:
            self._plan = Plan(run.relaxation)
        return self._plan

    def train(self, run: Run, tokens: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        import torch

        index = run.rng.randrange(len(run.logits))
        logits = torch.tensor(run.logits[index], dtype=run.net.embedding.dtype)
        p = run.probabilities(index)
        draw = self.plan(run).completed(run.relaxation.draw(p, run.rng), p, run.rng)
        run.tokens[0] += tokens.numel()
        loss, balance = self.plan(run).loss(run.net, draw, logits, tokens, targets)
        return loss + balance, loss

    def losses(self, run: Run, pool: Pool, tokens: Tensor, targets: Tensor) -> dict[int, tuple[float, np.ndarray]]:
        (index,) = pool.weights
        p = run.probabilities(index)
        draws = [self.plan(run).completed(draw, p, run.rng) for draw in pool.draws[: self.samples]]
        values, gradients = self.gradients(run, run.logits[index], draws, tokens, targets)
        run.tokens[1] += len(draws) * tokens.numel()
        chosen, active = run.relaxation.indicators(draws)
        scores = (chosen - active * p) * run.relaxation.learned(self.plan(run).mixed)
        return {index: (float(values.mean()), gradients.mean(0) + expectation_gradient(values, scores))}

    def gradients(
        self, run: Run, logits: np.ndarray, draws: Iterable[Draw], tokens: Tensor, targets: Tensor
    ) -> tuple[np.ndarray, np.ndarray]:
        """The mixed losses (n,) of draws, and their gradients (n, P) with respect to the logits of what is mixed."""
        import torch

        values, gradients = [], []
        with frozen(run.net):
            for draw in draws:
                leaf = torch.tensor(logits, dtype=run.net.embedding.dtype, requires_grad=True)
                loss, _ = self.plan(run).loss(run.net, draw, leaf, tokens, targets)
                found = torch.autograd.grad(loss, leaf, allow_unused=True)[0] if loss.requires_grad else None
                gradients.append(torch.zeros_like(leaf) if found is None else found)
                values.append(loss.detach())
        return (
            np.array(torch.stack(values).tolist(), dtype=float),
            np.asarray(torch.stack(gradients).numpy(), dtype=float),
        )

    def eigenvalue(self, run: Run, index: int) -> float | None:
        if not self.iterations or not self.plan(run).mixed:
            return None
        tokens, targets = run.batch_of(run.held_out, 0)  # always the same batch, so that looks compare
        cells = {path: int(run.probabilities(index)[at].argmax()) for path, at in run.relaxation.slices.items()}
        draw = run.relaxation.decide(run.probabilities(index), random.Random(0), cells)
        draw = self.plan(run).completed(draw, run.probabilities(index), random.Random(0))
        passes = 0

        def gradient(logits: np.ndarray) -> np.ndarray:
            nonlocal passes
            passes += 1
            return np.asarray(self.gradients(run, logits, [draw], tokens, targets)[1][0])

        start, iterations = self._vectors.get(index), self.iterations
        if start is None:  # a value that had not settled would grow from look to look by itself
            iterations *= 3
            rng = generator("eigenvector", run.settings.seed, index)
            start = np.array([rng.gauss(0.0, 1.0) for _ in range(run.relaxation.size)])
            start *= 1.0 - run.relaxation.learned(self.plan(run).mixed)
        value, self._vectors[index] = largest_eigenvalue(gradient, run.logits[index], start, iterations)
        run.tokens[1] += passes * tokens.numel()
        return value


class Plan:
    """Which decisions of a space are mixed, and the mixtures of a draw.

    Attributes:
        mixed: their paths, depth among them.
    """

    def __init__(self, relaxation: Relaxation) -> None:
        self.relaxation = relaxation
        space: type[Space] = relaxation.space
        slots = space.decisions()
        counts = [path for path, slot in slots.items() if slot.is_count and "." not in path]
        self.depth = counts[0] if len(counts) == 1 and _counts_layers(space, counts[0]) else None
        groups: dict[tuple[int, str], list[str]] = {}
        for path in relaxation.cells:
            found = BLOCK.match(path)
            if found:
                groups.setdefault((int(found[1]), found[2]), []).append(path)
        self.blocks = {key: paths for key, paths in groups.items() if self._count(paths) <= MOST}
        from nas_bo.model.connections import FIELDS, connects

        drawn = [space.sample(seed).tree for seed in range(FEW_DRAWS)]
        self.linked = any(p.rpartition(".")[2] in FIELDS for p in space.domains()) or any(map(connects, drawn))
        if self.linked:
            self.blocks, self.depth = {}, None
        inside = [path for paths in self.blocks.values() for path in paths]
        self.mixed = frozenset(inside + ([self.depth] if self.depth else []))
        self._known: dict[Any, Any] = {}

    def _count(self, paths: list[str]) -> int:
        """The combinations of a block, at most; conditions make them fewer."""
        top = paths[0]
        if any(not self.relaxation.cells[path].exact for path in paths):
            return MOST + 1
        total = 0
        for value in self.relaxation.cells[top].domain.values:
            below = [p for p in paths[1:] if p.startswith(f"{top}.{value}.")]
            total += int(np.prod([self.relaxation.cells[p].count for p in below])) if below else 1
        loose = [
            p
            for p in paths[1:]
            if not any(p.startswith(f"{top}.{v}.") for v in self.relaxation.cells[top].domain.values)
        ]
        return total * int(np.prod([self.relaxation.cells[p].count for p in loose]))

    def completed(self, draw: Draw, probabilities: np.ndarray, rng: random.Random) -> Draw:
        """The draw at the largest depth, with what it lacks for that drawn as well: an exit needs all above it."""
        if self.depth is None:
            return draw
        values = self.relaxation.cells[self.depth].domain.values
        deepest = max(range(len(values)), key=lambda cell: values[cell])  # type: ignore[arg-type, return-value]
        return self.relaxation.decide(probabilities, rng, {**draw.cells, self.depth: deepest})

    def loss(self, net: Supernet, draw: Draw, logits: Tensor, tokens: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Expected nats per token given what is sampled in a completed draw, differentiable with respect to logits (P,),
        which are on the CPU: nothing waits for the device; and the balance loss of mixtures of experts."""
        import torch

        from nas_bo.model.connections import connected
        from nas_bo.supernet.mixture import mixed_losses

        spec = net.spec(draw.arch)
        # two parts with one norm cannot be mixed apart, nor layers that others read: the sampled network itself
        if spec.parallel or self.linked or connected(spec.layers, spec.details):
            loss, nll = net.loss(tokens, targets, draw.arch)
            return nll, loss - nll
        p = torch.cat([logits[at].softmax(0) for at in self.relaxation.slices.values()])
        exits, places, layers = self._options_of(net, draw)
        products = [
            p[at].prod() for layer in layers for options in layer.values() for at, _ in options
        ]  # of nothing: 1
        shares = torch.stack([*(p[at] for at in places)] if places else [p.new_ones(())])
        weights = torch.cat([shares, *(one.reshape(1) for one in products)]).to(tokens.device, non_blocking=True)
        left = iter(weights[len(shares) :].unbind(0))
        mixtures = [
            {part: [(next(left), one) for _, one in options] for part, options in layer.items()} for layer in layers
        ]
        losses, balance = mixed_losses(net, tokens, targets, mixtures, exits)
        return losses @ weights[: len(shares)], balance

    def _options_of(
        self, net: Supernet, draw: Draw
    ) -> tuple[list[DecoderSpec], list[int], list[dict[str, list[tuple[list[int], DecoderSpec]]]]]:
        """The exits, shallow first; where the logits of their depths are; and for every layer and part the options:
        (where the logits of its choices are, a decoder that has it). Remembered by what is sampled."""
        key = tuple((path, cell) for path, cell in draw.cells.items() if path not in self.mixed)
        if key not in self._known:
            exits, places = [net.spec(draw.arch)], []
            if self.depth is not None:
                cells = self.relaxation.cells[self.depth]
                order = sorted(range(cells.count), key=lambda cell: cells.domain.values[cell])  # type: ignore[arg-type, return-value]
                exits = [net.spec(self.changed(draw, {self.depth: cell}).arch) for cell in order]
                places = [self.relaxation.slices[self.depth].start + cell for cell in order]
            layers = [
                {part: self._options(net, draw, (index, part)) for part in ("mixer", "mlp")}
                for index in range(len(exits[-1].layers))
            ]
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            self._known[key] = exits, places, layers
        known: tuple[list[DecoderSpec], list[int], list[dict[str, list[tuple[list[int], DecoderSpec]]]]] = self._known[
            key
        ]
        return known

    def options(
        self, net: Supernet, draw: Draw
    ) -> tuple[list[DecoderSpec], list[int], list[dict[str, list[tuple[list[int], Any]]]]]:
        """As they are mixed, for the draw alone: the exits, shallow first; where the logits of their depths are; and for
        every layer and part (where the logits of its choices are, the block)."""
        _, places, layers = self._options_of(net, draw)
        exits = [net.spec(draw.arch)]
        if self.depth is not None:
            first = self.relaxation.slices[self.depth].start
            exits = [net.spec(self.changed(draw, {self.depth: place - first}).arch) for place in places]
        return (
            exits,
            places,
            [
                {part: [(at, spec.layers[index].slot(part)) for at, spec in found] for part, found in layer.items()}
                for index, layer in enumerate(layers)
            ],
        )

    def _options(self, net: Supernet, draw: Draw, key: tuple[int, str]) -> list[tuple[list[int], DecoderSpec]]:
        if key not in self.blocks:
            return [([], net.spec(draw.arch))]
        found: dict[tuple[int, ...], DecoderSpec] = {}
        paths = self.blocks[key]
        for combination in itertools.product(*(range(self.relaxation.cells[path].count) for path in paths)):
            one = self.changed(draw, dict(zip(paths, combination, strict=True)))
            at = tuple(self.relaxation.slices[path].start + one.cells[path] for path in paths if path in one.cells)
            if at not in found:
                found[at] = net.spec(one.arch)
        return [(list(at), spec) for at, spec in found.items()]

    def changed(self, draw: Draw, cells: dict[str, int]) -> Draw:
        """The draw with other cells; decisions that become active only then are at their first cell."""
        forced = {**dict.fromkeys(self.relaxation.cells, 0), **draw.cells, **cells}
        return self.relaxation.decide(np.zeros(0), random.Random(0), forced)


@contextmanager
def frozen(net: Supernet) -> Iterator[None]:
    """Backward passes reach the logits only."""
    net.requires_grad_(False)
    try:
        yield
    finally:
        net.requires_grad_(True)


def _counts_layers(space: type[Space], count: str) -> bool:
    """Whether the top-level decision `count` is the number of `layers`, and of nothing else."""
    governed = {path.partition(".")[0] for path, slot in space.decisions().items() if slot.parent == count}
    return governed == {"layers"}
