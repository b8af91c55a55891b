"""REINFORCE (Williams, 1992, Machine Learning 8; Zoph and Le, 2017, "Neural architecture search with reinforcement
learning", ICLR) with natural gradients (Peters and Schaal, 2008, "Natural actor-critic", Neurocomputing 71)."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nas_bo.architecture import Architecture
from nas_bo.problem import Problem
from nas_bo.strategies.evolution import Breed, Niche, evolve
from nas_bo.strategies.history import Past, absurd, undominated
from nas_bo.strategies.policy import Policy, policy_of
from nas_bo.strategies.strategy import (
    check_settings,
    generator,
    guide,
    violation,
)
from nas_bo.trial import State, Trial
from nas_bo.validated import checked, number, whole_number

FLATTER = 0.9  # times the parameters after each such draw: a policy that repeats itself looks further away
AUGMENTED = 0.5  # the weight of the sum next to the maximum; ParEGO's 0.05 found less, a policy draws around a point
WIDE = 3.0  # positive values that span more than this factor are compared on a log scale


@dataclass(frozen=True)
class Reinforce:
    """An autoregressive policy over the tree of decisions, trained again on the whole history for every suggestion.

    The history may come from anywhere (random draws, enqueued trials, other strategies), so the gradient is not taken
    on the policy's own draws. In its natural form it is the ridge regression of the rewards on the scores (the
    gradients of log p), which needs no importance weights; its intercept is the baseline, and the entropy bonus is
    the temperature of the policy that it leads to. (Ten passes of plain, reward-weighted gradients found less: they
    credit choices for the company in which they were made.) Of draws of policies between that one and the uniform one a
    screen picks, as it does of the children in evolution.

    The reward is relative to the whole history. With one objective it is the value; with several, a weighted
    distance from the best values (as in MnasNet, Tan et al., 2019; in the form of ParEGO, Knowles, 2006), every
    suggestion with random weights of its own, so that the policies share the front among them (on HW-GPT-Bench
    one policy rewarded by hypervolume contribution, or by non-dominated rank, found less). It counts by rank, the
    best most; infeasible trials are worse than all feasible ones, failed ones the worst.

    Attributes:
        seed: a whole number, or a generator that gives one (see `nas_bo.seeds`).
        startup: how many trials come first, corners or a design that fills the space, then random ones.
        entropy: how much the policy keeps exploring: its bonus per nat, in deviations of the reward.
        ridge: how little one trial is trusted: the noise of the reward, as a multiple of its variance explained.
        replayed: how many trials a policy is trained on, the best half and the latest of the others.
        screen: how many draws are made for each suggestion. A cheap surrogate picks the most promising one (see
            `nas_bo.strategies.screen`); 1 is the method of the papers.

    Raises:
        SearchError: a setting that is not of that kind.
    """

    seed: int = 0
    startup: int = checked(10, whole_number(0))
    entropy: float = checked(0.03, number(above=0))
    ridge: float = checked(1.0, number(above=0))
    replayed: int = checked(256, whole_number(2))
    screen: int = checked(16, whole_number(1))

    def __post_init__(self) -> None:
        check_settings(self)

    def suggest(self, problem: Problem, trials: Sequence[Trial], n: int) -> list[Architecture]:
        """See `Strategy.suggest`."""
        rng = generator("reinforce", self.seed, len(trials))
        ended = {t.architecture.id: t for t in trials if t.state is not State.RUNNING}  # each once, the last time

        def breeder(past: Past, niche: Niche) -> Breed | None:
            known = [t for t in ended.values() if all(t.architecture.flat.get(p) == v for p, v in niche.items())]
            return self._breed(problem, known, rng) if known else None

        return evolve(problem, trials, n, rng, self.startup, self.screen, breeder)

    def _breed(self, problem: Problem, ended: Sequence[Trial], rng: random.Random) -> Breed:
        """Draws of policies that were trained on `ended`, with several objectives each of its own."""
        policy, points = policy_of(problem.space), _points(problem, ended)
        broken, drawn = np.array([violation(trial) for trial in ended]), {t.architecture.id for t in ended}
        training = _Training(policy, ended, _advantages(points, broken, rng), self)
        flatter, parameters = 1.0, training.parameters(_advantages(points, broken, rng))

        def breed() -> Architecture:
            nonlocal flatter, parameters
            if points.shape[1] > 1:
                parameters = training.parameters(_advantages(points, broken, rng))
            warmth = 1.0 if self.screen == 1 else rng.random()  # ~ uniform: a screen needs draws that differ
            arch = policy.draw(problem.space, flatter * warmth * parameters, rng)
            if arch.id in drawn:
                flatter *= FLATTER
            drawn.add(arch.id)
            return arch

        return breed


class _Training:
    """What policies trained on the same trials have in common: the trials that are looked at, their scores and the matrix of these, decomposed.

    Args:
        advantages: (trials,) by which the trials that are looked at are chosen.
    """

    def __init__(self, policy: Policy, ended: Sequence[Trial], advantages: np.ndarray, settings: Reinforce) -> None:
        self._scale, self._entropy = policy.scale, settings.entropy
        order, half = np.argsort(-advantages, kind="stable"), settings.replayed // 2
        best, rest = order[:half], np.sort(order[half:])
        self._chosen = np.sort(np.concatenate([best, rest[-(settings.replayed - len(best)) :]]))
        scores = policy.scores([ended[i].architecture for i in self._chosen])
        self._used = np.flatnonzero(scores.any(0))
        scores = scores[:, self._used] - scores[:, self._used].mean(0)
        gram = scores @ scores.T
        gram[np.diag_indices(len(gram))] += settings.ridge * max(1e-9, float(np.trace(gram)) / len(gram))
        self._weights = np.linalg.solve(gram, scores).T  # (used, trials)

    def parameters(self, advantages: np.ndarray) -> np.ndarray:
        """The parameters (parameters,) that maximise the expected advantage (trials,) plus the entropy bonus."""
        target = advantages[self._chosen] - advantages[self._chosen].mean()  # the baseline
        found, deviation = np.zeros(len(self._scale)), float(target.std())
        if deviation > 1e-9:  # all equal, up to rounding: nothing to learn
            # Peters and Schaal (2008): the natural gradient w solves scores @ w + baseline = reward. With an
            # entropy bonus, expected reward is largest where log p = w / entropy, up to a constant.
            found[self._used] = self._weights @ (target / deviation) / self._entropy
        return np.asarray(found * self._scale)


def _points(problem: Problem, trials: Sequence[Trial]) -> np.ndarray:
    """The values to steer by, minimised: (trials, objectives); NaN where a trial has none or is infeasible."""
    points = np.full((len(trials), len(problem.columns)), math.nan)
    for row, trial in zip(points, trials, strict=True):
        values = guide(problem, trial)
        if values is not None and violation(trial) == 0:
            row[:] = values
    valued = np.flatnonzero(~np.isnan(points).any(1))
    points[valued[absurd(points[valued])]] = math.nan
    return points


def _advantages(points: np.ndarray, broken: np.ndarray, rng: random.Random) -> np.ndarray:
    """How good every trial is: (trials,), the larger the better, about 0 in the mean."""
    valued = ~np.isnan(points).any(1)
    reward = np.full(len(points), -math.inf)
    reward[valued] = _rewards(points[valued], rng)
    broken = np.where(valued, 0.0, np.where(broken > 0, broken, math.inf))  # complete, but without values: failed
    _, place, ties = np.unique(np.column_stack([reward, -broken]), axis=0, return_inverse=True, return_counts=True)
    rank = (np.cumsum(ties) - ties / 2)[place.reshape(-1)] / len(points)  # in (0, 1), equal ones in the middle
    return np.asarray(-np.log(1 - rank) - 1)  # of exponential scores the best have most to say


def _rewards(points: np.ndarray, rng: random.Random) -> np.ndarray:
    """A weighted reward of values (n, objectives), in a random direction: (n,)."""
    if points.shape[1] == 1 or not len(points):
        return np.asarray(-points.sum(1))
    weights = np.array([rng.expovariate(1.0) for _ in range(points.shape[1])])  # ~ uniform on the simplex
    wide = (points.min(0) > 0) & (points.max(0) > WIDE * np.abs(points.min(0)))
    points = np.where(wide, np.log(np.where(wide, points, 1.0)), points)
    front = points[undominated(points)]
    span = np.ptp(front, axis=0)
    span = np.where(span > 0, span, np.maximum(np.ptp(points, axis=0), 1e-300))
    with np.errstate(over="ignore", invalid="ignore"):
        far = weights / weights.sum() * (points - front.min(0)) / span
        return np.asarray(-np.nan_to_num(far.max(1) + AUGMENTED * far.sum(1), nan=math.inf, posinf=math.inf))
