"""ProxylessNAS (Cai et al. 2019, arXiv 1812.00332): one path at a time, and the cost of the device in the loss.

Binary gates are trained by REINFORCE (section 3.3.2), which holds for every kind of decision: kinds of
blocks, their sizes, depth and width. Its variance is kept low by a leave-one-out baseline, by one batch for all paths of an
update, and by sharing the paths between the lambdas with importance weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nas_bo.strategies.one_shot.alternation import Method, Pool, Run
from nas_bo.strategies.one_shot.gradient import GradientSearch
from nas_bo.strategies.one_shot.relaxation import expectation_gradient
from nas_bo.validated import checked, number, whole_number

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class ProxylessNAS(GradientSearch):
    """Gradient-based, hardware-aware search along single paths; every decision of the space is treated alike.

    The gradient of the expected loss has no bias: it is not that of a relaxed network but of the sampled ones. The weights
    are trained along paths drawn from the distributions, or uniformly.

    Attributes:
        paths: how many architectures are evaluated per update, forward only.
        explore: share of the training paths that are uniform draws, so that no path is judged untrained.
    """

    paths: int = checked(12, whole_number(2))
    explore: float = checked(0.5, number(at_least=0, at_most=1))

    def method(self) -> Method:
        return _Paths(self.paths, self.explore)


class _Paths(Method):
    def __init__(self, paths: int, explore: float) -> None:
        self.paths, self.explore = paths, explore

    def turn(self, run: Run, update: int) -> list[int]:
        return run.guard.live()

    def train(self, run: Run, tokens: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        return trained_path(run, self.explore, tokens, targets)

    def losses(self, run: Run, pool: Pool, tokens: Tensor, targets: Tensor) -> dict[int, tuple[float, np.ndarray]]:
        import torch

        drawn = pool.draws[: self.paths]
        n = len(drawn)
        with torch.no_grad():
            found = [run.net.loss(tokens, targets, draw.arch)[1] for draw in drawn]
        run.tokens[1] += n * tokens.numel()
        values = np.array(torch.stack(found).tolist())
        answers = {}
        for index, weights in pool.weights.items():
            shares = weights[:n] / weights[:n].sum()
            gradient = expectation_gradient(values, run.scores(pool, index)[:n], weights[:n])
            answers[index] = float(shares @ values), gradient
        return answers


def trained_path(run: Run, explore: float, tokens: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """The loss of a path to train the weights on, and its nats per token; tokens, targets (B, T). A share `explore` of the
    paths is uniform, the others come from the distributions."""
    if not run.updates or run.rng.random() < explore:
        p = run.relaxation.probabilities(run.relaxation.uniform())
    else:
        p = run.probabilities(run.rng.randrange(len(run.logits)))
    run.tokens[0] += tokens.numel()
    return run.net.loss(tokens, targets, run.relaxation.draw(p, run.rng).arch)
